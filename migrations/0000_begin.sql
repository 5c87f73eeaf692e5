CREATE TABLE "accounts" (
	"id" text PRIMARY KEY NOT NULL,
	"name" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"suspended" boolean DEFAULT false NOT NULL,
	"quota_sandboxes" bigint,
	"quota_vcpus" bigint,
	"quota_memory_mib" bigint,
	"quota_storage_mib" bigint,
	"quota_requests_per_second" bigint,
	"credit_usd" numeric,
	CONSTRAINT "accounts_quota" CHECK (least("accounts"."quota_sandboxes", "accounts"."quota_vcpus", "accounts"."quota_memory_mib", "accounts"."quota_storage_mib") >= 0),
	CONSTRAINT "accounts_quota_requests" CHECK ("accounts"."quota_requests_per_second" >= 1)
);
--> statement-breakpoint
CREATE TABLE "api_keys" (
	"hash" text PRIMARY KEY NOT NULL,
	"account" text NOT NULL,
	"prefix" text NOT NULL,
	"label" text NOT NULL,
	"scopes" text[] NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"expires_at" timestamp with time zone,
	"last_used_at" timestamp with time zone,
	"revoked_at" timestamp with time zone,
	CONSTRAINT "api_keys_prefix_unique" UNIQUE("prefix"),
	CONSTRAINT "api_keys_hash" CHECK ("api_keys"."hash" ~ '^[0-9a-f]{64}$')
);
--> statement-breakpoint
CREATE TABLE "audit_log" (
	"id" bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY (sequence name "audit_log_id_seq" INCREMENT BY 1 MINVALUE 1 MAXVALUE 9223372036854775807 START WITH 1 CACHE 1),
	"at" timestamp with time zone NOT NULL,
	"account" text,
	"actor" text NOT NULL,
	"action" text NOT NULL,
	"target" text,
	"status" integer NOT NULL,
	"request_id" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "secrets" (
	"name" text PRIMARY KEY NOT NULL,
	"value" text NOT NULL
);
--> statement-breakpoint
CREATE TABLE "webhook_deliveries" (
	"id" text PRIMARY KEY NOT NULL,
	"webhook" text NOT NULL,
	"body" text NOT NULL,
	"tries" integer DEFAULT 0 NOT NULL,
	"next_at" timestamp with time zone NOT NULL
);
--> statement-breakpoint
CREATE TABLE "webhooks" (
	"id" text PRIMARY KEY NOT NULL,
	"account" text NOT NULL,
	"url" text NOT NULL,
	"events" jsonb NOT NULL,
	"secret" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"last_at" timestamp with time zone,
	"last_status" integer
);
--> statement-breakpoint
CREATE TABLE "stored" (
	"account" text NOT NULL,
	"kind" text NOT NULL,
	"id" text NOT NULL,
	"size_bytes" bigint NOT NULL,
	"monotonic_ms" double precision NOT NULL,
	"at" timestamp with time zone NOT NULL,
	"node" text NOT NULL,
	CONSTRAINT "stored_account_kind_id_at_monotonic_ms_pk" PRIMARY KEY("account","kind","id","at","monotonic_ms"),
	CONSTRAINT "stored_size" CHECK ("stored"."size_bytes" >= 0)
);
--> statement-breakpoint
CREATE TABLE "stored_now" (
	"account" text NOT NULL,
	"kind" text NOT NULL,
	"id" text NOT NULL,
	"size_bytes" bigint NOT NULL,
	"at" timestamp with time zone NOT NULL,
	"monotonic_ms" double precision NOT NULL,
	CONSTRAINT "stored_now_account_kind_id_pk" PRIMARY KEY("account","kind","id"),
	CONSTRAINT "stored_now_size" CHECK ("stored_now"."size_bytes" >= 0)
);
--> statement-breakpoint
CREATE TABLE "idempotency_keys" (
	"account" text NOT NULL,
	"key" text NOT NULL,
	"request_hash" text NOT NULL,
	"sandbox" text NOT NULL,
	"at" timestamp with time zone NOT NULL,
	CONSTRAINT "idempotency_keys_account_key_pk" PRIMARY KEY("account","key")
);
--> statement-breakpoint
CREATE TABLE "meters" (
	"sandbox" text PRIMARY KEY NOT NULL,
	"account" text NOT NULL,
	"template" text NOT NULL,
	"closed_vcpu_ms" bigint NOT NULL,
	"closed_memory_mib_ms" bigint NOT NULL,
	"egress_bytes" bigint NOT NULL,
	"open_since_ms" bigint,
	"open_since" timestamp with time zone,
	"open_vcpus" integer,
	"open_memory_mib" integer,
	"forgotten" boolean DEFAULT false NOT NULL,
	CONSTRAINT "meters_sums" CHECK (least("meters"."closed_vcpu_ms", "meters"."closed_memory_mib_ms", "meters"."egress_bytes") >= 0)
);
--> statement-breakpoint
CREATE TABLE "moves" (
	"sandbox" text NOT NULL,
	"sequence" integer NOT NULL,
	"account" text NOT NULL,
	"template" text NOT NULL,
	"cpu" integer NOT NULL,
	"memory_mib" integer NOT NULL,
	"from_state" text,
	"to_state" text NOT NULL,
	"event" text NOT NULL,
	"reason" text,
	"network_out_bytes" bigint,
	"network_in_bytes" bigint,
	"network_connections" integer,
	"monotonic_ms" double precision NOT NULL,
	"at" timestamp with time zone NOT NULL,
	CONSTRAINT "moves_sandbox_sequence_pk" PRIMARY KEY("sandbox","sequence"),
	CONSTRAINT "moves_sequence" CHECK ("moves"."sequence" >= 1)
);
--> statement-breakpoint
CREATE TABLE "port_labels" (
	"account" text NOT NULL,
	"sandbox" text NOT NULL,
	"port" integer NOT NULL,
	"label" text,
	CONSTRAINT "port_labels_account_sandbox_port_pk" PRIMARY KEY("account","sandbox","port"),
	CONSTRAINT "port_labels_port" CHECK ("port_labels"."port" between 1 and 65535)
);
--> statement-breakpoint
CREATE TABLE "sandboxes" (
	"id" text PRIMARY KEY NOT NULL,
	"account" text NOT NULL,
	"template" text NOT NULL,
	"cpu" integer NOT NULL,
	"memory_mib" integer NOT NULL,
	"state" text NOT NULL,
	"reason" text,
	"last_sequence" integer DEFAULT 0 NOT NULL,
	"node" text NOT NULL,
	"created_at" timestamp with time zone NOT NULL,
	"ended_at" timestamp with time zone,
	"booked" boolean DEFAULT false NOT NULL,
	"info" jsonb,
	CONSTRAINT "sandboxes_size" CHECK ("sandboxes"."cpu" > 0 and "sandboxes"."memory_mib" > 0)
);
--> statement-breakpoint
ALTER TABLE "api_keys" ADD CONSTRAINT "api_keys_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "webhook_deliveries" ADD CONSTRAINT "webhook_deliveries_webhook_webhooks_id_fk" FOREIGN KEY ("webhook") REFERENCES "public"."webhooks"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "webhooks" ADD CONSTRAINT "webhooks_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "stored" ADD CONSTRAINT "stored_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "stored_now" ADD CONSTRAINT "stored_now_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD CONSTRAINT "idempotency_keys_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "idempotency_keys" ADD CONSTRAINT "idempotency_keys_sandbox_sandboxes_id_fk" FOREIGN KEY ("sandbox") REFERENCES "public"."sandboxes"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "meters" ADD CONSTRAINT "meters_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "moves" ADD CONSTRAINT "moves_sandbox_sandboxes_id_fk" FOREIGN KEY ("sandbox") REFERENCES "public"."sandboxes"("id") ON DELETE cascade ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "moves" ADD CONSTRAINT "moves_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "port_labels" ADD CONSTRAINT "port_labels_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
ALTER TABLE "sandboxes" ADD CONSTRAINT "sandboxes_account_accounts_id_fk" FOREIGN KEY ("account") REFERENCES "public"."accounts"("id") ON DELETE no action ON UPDATE no action;--> statement-breakpoint
CREATE INDEX "api_keys_account" ON "api_keys" USING btree ("account");--> statement-breakpoint
CREATE INDEX "audit_log_account" ON "audit_log" USING btree ("account","at");--> statement-breakpoint
CREATE INDEX "audit_log_at" ON "audit_log" USING btree ("at");--> statement-breakpoint
CREATE INDEX "webhook_deliveries_due" ON "webhook_deliveries" USING btree ("next_at");--> statement-breakpoint
CREATE INDEX "webhook_deliveries_webhook" ON "webhook_deliveries" USING btree ("webhook");--> statement-breakpoint
CREATE INDEX "webhooks_account" ON "webhooks" USING btree ("account");--> statement-breakpoint
CREATE INDEX "stored_at" ON "stored" USING btree ("at");--> statement-breakpoint
CREATE INDEX "idempotency_keys_sandbox" ON "idempotency_keys" USING btree ("sandbox");--> statement-breakpoint
CREATE INDEX "idempotency_keys_at" ON "idempotency_keys" USING btree ("at");--> statement-breakpoint
CREATE INDEX "meters_account" ON "meters" USING btree ("account");--> statement-breakpoint
CREATE INDEX "moves_account" ON "moves" USING btree ("account","at");--> statement-breakpoint
CREATE INDEX "sandboxes_open" ON "sandboxes" USING btree ("account") WHERE "sandboxes"."ended_at" is null;--> statement-breakpoint
CREATE INDEX "sandboxes_open_node" ON "sandboxes" USING btree ("node") WHERE "sandboxes"."ended_at" is null;--> statement-breakpoint
CREATE INDEX "sandboxes_ended" ON "sandboxes" USING btree ("ended_at") WHERE "sandboxes"."ended_at" is not null;