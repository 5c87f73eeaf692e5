CREATE SCHEMA "billing";
--> statement-breakpoint
CREATE EXTENSION IF NOT EXISTS btree_gist;
--> statement-breakpoint
-- How much an interval is, in its meter's unit, which is in its name: seconds where that ends so, milliseconds else; a count,
-- whose interval is an instant, is its units. Each instant is taken down before anything is subtracted: any cut adds up.
CREATE FUNCTION billing.quantity(meter text, units bigint, from_at timestamptz, to_at timestamptz)
RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN CASE
  WHEN from_at = to_at THEN units
  WHEN right(meter, 2) = '_s' THEN units * (floor(extract(epoch FROM (to_at - to_timestamp(0))))::bigint
    - floor(extract(epoch FROM (from_at - to_timestamp(0))))::bigint)
  ELSE units * (floor(extract(epoch FROM (to_at - to_timestamp(0))) * 1000)::bigint
    - floor(extract(epoch FROM (from_at - to_timestamp(0))) * 1000)::bigint)
END;
--> statement-breakpoint
CREATE TABLE "billing"."intervals" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "billing"."intervals_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"account" text NOT NULL,
	"subject" text NOT NULL,
	"template" text,
	"meter" text NOT NULL,
	"units" bigint NOT NULL,
	"during" "tstzrange" NOT NULL,
	"quantity" bigint GENERATED ALWAYS AS (billing.quantity(meter, units, lower(during), upper(during))) STORED NOT NULL,
	"recorded_at" timestamp with time zone DEFAULT now() NOT NULL,
	"key" bigint GENERATED ALWAYS AS (hashtextextended(subject || ' ' || meter, 0)) STORED NOT NULL,
	CONSTRAINT "intervals_units" CHECK ("billing"."intervals"."units" >= 0)
);
--> statement-breakpoint
CREATE TABLE "billing"."invoice_lines_kept" (
	"invoice" text NOT NULL,
	"line" integer NOT NULL,
	"kind" text NOT NULL,
	"meter" text,
	"describes" text NOT NULL,
	"quantity" numeric,
	"price" numeric,
	"amount" numeric NOT NULL,
	CONSTRAINT "invoice_lines_kept_invoice_line_pk" PRIMARY KEY("invoice","line")
);
--> statement-breakpoint
CREATE TABLE "billing"."invoices" (
	"id" text PRIMARY KEY NOT NULL,
	"account" text NOT NULL,
	"month" date NOT NULL,
	"currency" char(3) NOT NULL,
	"plan" text,
	"total" numeric NOT NULL,
	"issued_at" timestamp with time zone NOT NULL,
	"up_to_entry" bigint NOT NULL,
	"bill_to" jsonb NOT NULL
);
--> statement-breakpoint
CREATE TABLE "billing"."ledger" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "billing"."ledger_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"account" text NOT NULL,
	"kind" text NOT NULL,
	"interval" bigint NOT NULL,
	"corrects" bigint,
	"window" date NOT NULL,
	"day" date NOT NULL,
	"meter" text NOT NULL,
	"template" text,
	"quantity" bigint NOT NULL,
	"list" text,
	"price" numeric NOT NULL,
	"amount" numeric NOT NULL,
	"currency" char(3) NOT NULL,
	"booked_at" timestamp with time zone DEFAULT now() NOT NULL,
	"reason" text,
	CONSTRAINT "ledger_kind" CHECK ("billing"."ledger"."kind" in ('charge', 'reversal', 'correction')),
	CONSTRAINT "ledger_names" CHECK (("billing"."ledger"."kind" = 'charge') = ("billing"."ledger"."corrects" is null)),
	CONSTRAINT "ledger_price" CHECK ("billing"."ledger"."price" >= 0)
);
--> statement-breakpoint
CREATE TABLE "billing"."meters" (
	"meter" text PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"unit" text NOT NULL,
	"factor" numeric NOT NULL,
	"describes" text NOT NULL,
	CONSTRAINT "meters_kind" CHECK ("billing"."meters"."kind" in ('level', 'count')),
	CONSTRAINT "meters_factor" CHECK ("billing"."meters"."factor" > 0)
);
--> statement-breakpoint
CREATE TABLE "billing"."outbox" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "billing"."outbox_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"sink" text NOT NULL,
	"event" text NOT NULL,
	"body" jsonb NOT NULL,
	"tries" integer DEFAULT 0 NOT NULL,
	"next_at" timestamp with time zone NOT NULL,
	"sent_at" timestamp with time zone
);
--> statement-breakpoint
CREATE TABLE "billing"."plan_included" (
	"plan" text NOT NULL,
	"meter" text NOT NULL,
	"quantity" numeric NOT NULL,
	CONSTRAINT "plan_included_plan_meter_pk" PRIMARY KEY("plan","meter"),
	CONSTRAINT "plan_included_quantity" CHECK ("billing"."plan_included"."quantity" > 0)
);
--> statement-breakpoint
CREATE TABLE "billing"."plans" (
	"id" text PRIMARY KEY NOT NULL,
	"list" text NOT NULL,
	"minimum" numeric,
	"cap" numeric,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL,
	CONSTRAINT "plans_bounds" CHECK (0 <= "billing"."plans"."minimum" and coalesce("billing"."plans"."minimum", 0) <= "billing"."plans"."cap")
);
--> statement-breakpoint
CREATE TABLE "billing"."price_lists" (
	"id" text PRIMARY KEY NOT NULL,
	"currency" char(3) NOT NULL,
	"account" text,
	"created_at" timestamp with time zone DEFAULT now() NOT NULL
);
--> statement-breakpoint
CREATE TABLE "billing"."prices" (
	"list" text NOT NULL,
	"meter" text NOT NULL,
	"from_day" date NOT NULL,
	"price" numeric NOT NULL,
	CONSTRAINT "prices_list_meter_from_day_pk" PRIMARY KEY("list","meter","from_day"),
	CONSTRAINT "prices_price" CHECK ("billing"."prices"."price" >= 0)
);
--> statement-breakpoint
CREATE TABLE "billing"."rollups" (
	"window" date NOT NULL,
	"day" date NOT NULL,
	"account" text NOT NULL,
	"template" text NOT NULL,
	"meter" text NOT NULL,
	"quantity" numeric NOT NULL,
	"amount" numeric NOT NULL,
	"currency" char(3) NOT NULL,
	CONSTRAINT "rollups_account_day_meter_template_window_currency_pk" PRIMARY KEY("account","day","meter","template","window","currency")
);
--> statement-breakpoint
CREATE TABLE "billing"."settled" (
	"only" boolean PRIMARY KEY DEFAULT true NOT NULL,
	"interval" bigint DEFAULT 0 NOT NULL,
	"entry" bigint DEFAULT 0 NOT NULL,
	CONSTRAINT "settled_only" CHECK ("billing"."settled"."only")
);
--> statement-breakpoint
CREATE TABLE "billing"."sinks" (
	"id" text PRIMARY KEY NOT NULL,
	"kind" text NOT NULL,
	"account" text,
	"settings" jsonb NOT NULL,
	"interval" bigint DEFAULT 0 NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"last_error" text
);
--> statement-breakpoint
CREATE TABLE "billing"."subscriptions" (
	"account" text NOT NULL,
	"from_day" date NOT NULL,
	"plan" text NOT NULL,
	CONSTRAINT "subscriptions_account_from_day_pk" PRIMARY KEY("account","from_day")
);
--> statement-breakpoint
CREATE TABLE "billing"."windows" (
	"day" date PRIMARY KEY NOT NULL,
	"closed_at" timestamp with time zone
);
--> statement-breakpoint
ALTER TABLE "accounts" ADD COLUMN "on_empty" text DEFAULT 'nothing' NOT NULL;--> statement-breakpoint
ALTER TABLE "accounts" ADD COLUMN "time_zone" text DEFAULT 'UTC' NOT NULL;--> statement-breakpoint
ALTER TABLE "accounts" ADD COLUMN "bill_to" jsonb;--> statement-breakpoint
ALTER TABLE "sandboxes" ADD COLUMN "labels" jsonb DEFAULT '{}'::jsonb NOT NULL;--> statement-breakpoint
ALTER TABLE "sandboxes" ADD COLUMN "forgotten" boolean DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE "sandboxes" ADD COLUMN "open_since_ms" bigint;--> statement-breakpoint
ALTER TABLE "sandboxes" ADD COLUMN "seen_ms" bigint;--> statement-breakpoint
ALTER TABLE "sandboxes" ADD COLUMN "open_cpu_used_ms" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "sandboxes" ADD COLUMN "open_egress_bytes" bigint DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE "billing"."intervals" ADD CONSTRAINT "intervals_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."invoice_lines_kept" ADD CONSTRAINT "invoice_lines_kept_invoice_invoices_id_fk" FOREIGN KEY ("invoice") REFERENCES "billing"."invoices"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."invoices" ADD CONSTRAINT "invoices_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."invoices" ADD CONSTRAINT "invoices_plan_plans_id_fk" FOREIGN KEY ("plan") REFERENCES "billing"."plans"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."ledger" ADD CONSTRAINT "ledger_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."ledger" ADD CONSTRAINT "ledger_interval_intervals_id_fk" FOREIGN KEY ("interval") REFERENCES "billing"."intervals"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."ledger" ADD CONSTRAINT "ledger_window_windows_day_fk" FOREIGN KEY ("window") REFERENCES "billing"."windows"("day") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."ledger" ADD CONSTRAINT "ledger_list_price_lists_id_fk" FOREIGN KEY ("list") REFERENCES "billing"."price_lists"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."ledger" ADD CONSTRAINT "ledger_corrects_fk" FOREIGN KEY ("corrects") REFERENCES "billing"."ledger"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."outbox" ADD CONSTRAINT "outbox_sink_sinks_id_fk" FOREIGN KEY ("sink") REFERENCES "billing"."sinks"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."plan_included" ADD CONSTRAINT "plan_included_plan_plans_id_fk" FOREIGN KEY ("plan") REFERENCES "billing"."plans"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."plan_included" ADD CONSTRAINT "plan_included_meter_meters_meter_fk" FOREIGN KEY ("meter") REFERENCES "billing"."meters"("meter") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."plans" ADD CONSTRAINT "plans_list_price_lists_id_fk" FOREIGN KEY ("list") REFERENCES "billing"."price_lists"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."price_lists" ADD CONSTRAINT "price_lists_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."prices" ADD CONSTRAINT "prices_list_price_lists_id_fk" FOREIGN KEY ("list") REFERENCES "billing"."price_lists"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."prices" ADD CONSTRAINT "prices_meter_meters_meter_fk" FOREIGN KEY ("meter") REFERENCES "billing"."meters"("meter") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."rollups" ADD CONSTRAINT "rollups_window_windows_day_fk" FOREIGN KEY ("window") REFERENCES "billing"."windows"("day") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."rollups" ADD CONSTRAINT "rollups_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."sinks" ADD CONSTRAINT "sinks_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."subscriptions" ADD CONSTRAINT "subscriptions_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "billing"."subscriptions" ADD CONSTRAINT "subscriptions_plan_plans_id_fk" FOREIGN KEY ("plan") REFERENCES "billing"."plans"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "intervals_account" ON "billing"."intervals" USING btree ("account",lower("during"));--> statement-breakpoint
CREATE INDEX "intervals_subject" ON "billing"."intervals" USING btree ("subject");--> statement-breakpoint
CREATE UNIQUE INDEX "invoices_month" ON "billing"."invoices" USING btree ("account","month","currency");--> statement-breakpoint
CREATE UNIQUE INDEX "ledger_charge" ON "billing"."ledger" USING btree ("interval") WHERE "billing"."ledger"."kind" = 'charge';--> statement-breakpoint
CREATE UNIQUE INDEX "ledger_corrected" ON "billing"."ledger" USING btree ("corrects","kind") WHERE "billing"."ledger"."corrects" is not null;--> statement-breakpoint
CREATE INDEX "ledger_account" ON "billing"."ledger" USING btree ("account","day");--> statement-breakpoint
CREATE UNIQUE INDEX "outbox_event" ON "billing"."outbox" USING btree ("sink","event");--> statement-breakpoint
CREATE INDEX "outbox_due" ON "billing"."outbox" USING btree ("sink","next_at");--> statement-breakpoint
CREATE INDEX "rollups_day" ON "billing"."rollups" USING btree ("day");--> statement-breakpoint
ALTER TABLE "accounts" ADD CONSTRAINT "accounts_on_empty" CHECK ("accounts"."on_empty" in ('nothing', 'hibernate'));--> statement-breakpoint
DROP INDEX "sandboxes_ended";--> statement-breakpoint
ALTER TABLE "moves" ADD COLUMN "cpu_used_ms" bigint;--> statement-breakpoint
ALTER TABLE "stored_now" ADD COLUMN "since_ms" bigint;--> statement-breakpoint
ALTER TABLE "stored_now" ADD COLUMN "node" text DEFAULT '' NOT NULL;--> statement-breakpoint
CREATE INDEX "sandboxes_ended" ON "sandboxes" USING btree ("ended_at") WHERE "sandboxes"."ended_at" is not null and not "sandboxes"."forgotten";--> statement-breakpoint
UPDATE sandboxes SET labels = coalesce(info -> 'metadata', '{}');
--> statement-breakpoint
-- What is forgotten keeps a row from now on, which says that none of its moves counts again. Its size is not known any more.
INSERT INTO sandboxes (id, account, template, cpu, memory_mib, state, node, created_at, ended_at, forgotten)
SELECT sandbox, account, template, 1, 1, 'deleted', '', to_timestamp(0), to_timestamp(0), true FROM meters WHERE forgotten
ON CONFLICT (id) DO UPDATE SET forgotten = true;
--> statement-breakpoint
DROP TABLE "meters" CASCADE;
