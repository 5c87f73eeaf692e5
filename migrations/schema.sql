-- What all migrations come to. Written by a test, which says how to renew it; never applied.

create table accounts (
  id text not null,
  name text not null,
  created_at timestamp with time zone not null,
  suspended boolean not null default false,
  quota_sandboxes bigint,
  quota_vcpus bigint,
  quota_memory_mib bigint,
  quota_storage_mib bigint,
  quota_requests_per_second bigint,
  credit_usd numeric,
  on_empty text not null default 'nothing'::text,
  time_zone text not null default 'UTC'::text,
  bill_to jsonb,
  constraint accounts_on_empty CHECK ((on_empty = ANY (ARRAY['nothing'::text, 'hibernate'::text]))),
  constraint accounts_quota CHECK ((LEAST(quota_sandboxes, quota_vcpus, quota_memory_mib, quota_storage_mib) >= 0)),
  constraint accounts_quota_requests CHECK ((quota_requests_per_second >= 1)),
  constraint accounts_pkey PRIMARY KEY (id)
);

create table api_keys (
  hash text not null,
  account text not null,
  prefix text not null,
  label text not null,
  scopes text[] not null,
  created_at timestamp with time zone not null,
  expires_at timestamp with time zone,
  last_used_at timestamp with time zone,
  revoked_at timestamp with time zone,
  constraint api_keys_hash CHECK ((hash ~ '^[0-9a-f]{64}$'::text)),
  constraint api_keys_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id) ON DELETE CASCADE,
  constraint api_keys_pkey PRIMARY KEY (hash),
  constraint api_keys_prefix_unique UNIQUE (prefix)
);

create table audit_log (
  id bigint generated always as identity not null,
  at timestamp with time zone not null,
  account text,
  actor text not null,
  action text not null,
  target text,
  status integer not null,
  request_id text not null,
  constraint audit_log_pkey PRIMARY KEY (id)
);

create table billing.intervals (
  id bigint generated always as identity not null,
  account text not null,
  subject text not null,
  template text,
  meter text not null,
  units bigint not null,
  during tstzrange not null,
  quantity bigint not null generated always as (billing.quantity(meter, units, lower(during), upper(during))) stored,
  recorded_at timestamp with time zone not null default now(),
  key bigint not null generated always as (hashtextextended(((subject || ' '::text) || meter), (0)::bigint)) stored,
  constraint intervals_shape CHECK ((
CASE
    WHEN (meter = ANY (ARRAY['vcpu_ms'::text, 'memory_mib_ms'::text, 'paused_memory_mib_ms'::text, 'ready_memory_mib_ms'::text, 'hibernated_mib_s'::text, 'snapshot_mib_s'::text, 'volume_mib_s'::text, 'template_mib_s'::text, 'build_s'::text])) THEN (lower_inc(during) AND (NOT upper_inc(during)) AND (lower(during) < upper(during)) AND ((upper(during) AT TIME ZONE 'UTC'::text) <= (date_trunc('day'::text, (lower(during) AT TIME ZONE 'UTC'::text)) + '1 day'::interval)) AND (date_trunc('milliseconds'::text, (lower(during) AT TIME ZONE 'UTC'::text)) = (lower(during) AT TIME ZONE 'UTC'::text)) AND (date_trunc('milliseconds'::text, (upper(during) AT TIME ZONE 'UTC'::text)) = (upper(during) AT TIME ZONE 'UTC'::text)))
    WHEN (meter = ANY (ARRAY['egress_bytes'::text, 'creates'::text, 'cpu_used_ms'::text])) THEN (lower_inc(during) AND upper_inc(during) AND (lower(during) = upper(during)))
    ELSE NULL::boolean
END IS TRUE)),
  constraint intervals_units CHECK ((units >= 0)),
  constraint intervals_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint intervals_pkey PRIMARY KEY (id),
  constraint intervals_once EXCLUDE USING gist (key WITH =, during WITH &&)
);

create table billing.invoice_lines_kept (
  invoice text not null,
  line integer not null,
  kind text not null,
  meter text,
  describes text not null,
  quantity numeric,
  price numeric,
  amount numeric not null,
  constraint invoice_lines_kept_invoice_invoices_id_fk FOREIGN KEY (invoice) REFERENCES billing.invoices(id),
  constraint invoice_lines_kept_invoice_line_pk PRIMARY KEY (invoice, line)
);

create table billing.invoices (
  id text not null,
  account text not null,
  month date not null,
  currency character(3) not null,
  plan text,
  total numeric not null,
  issued_at timestamp with time zone not null,
  up_to_entry bigint not null,
  bill_to jsonb not null,
  constraint invoices_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint invoices_plan_plans_id_fk FOREIGN KEY (plan) REFERENCES billing.plans(id),
  constraint invoices_pkey PRIMARY KEY (id)
);

create table billing.ledger (
  id bigint generated always as identity not null,
  account text not null,
  kind text not null,
  "interval" bigint not null,
  corrects bigint,
  "window" date not null,
  day date not null,
  meter text not null,
  template text,
  quantity bigint not null,
  list text,
  price numeric not null,
  amount numeric not null,
  currency character(3) not null,
  booked_at timestamp with time zone not null default now(),
  reason text,
  constraint ledger_finite CHECK (((price < 'Infinity'::numeric) AND ('-Infinity'::numeric < amount) AND (amount < 'Infinity'::numeric))),
  constraint ledger_kind CHECK ((kind = ANY (ARRAY['charge'::text, 'reversal'::text, 'correction'::text]))),
  constraint ledger_names CHECK (((kind = 'charge'::text) = (corrects IS NULL))),
  constraint ledger_price CHECK ((price >= (0)::numeric)),
  constraint ledger_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint ledger_corrects_fk FOREIGN KEY (corrects) REFERENCES billing.ledger(id),
  constraint ledger_interval_intervals_id_fk FOREIGN KEY ("interval") REFERENCES billing.intervals(id),
  constraint ledger_list_price_lists_id_fk FOREIGN KEY (list) REFERENCES billing.price_lists(id),
  constraint ledger_window_windows_day_fk FOREIGN KEY ("window") REFERENCES billing.windows(day),
  constraint ledger_pkey PRIMARY KEY (id)
);

create table billing.meters (
  meter text not null,
  kind text not null,
  unit text not null,
  factor numeric not null,
  describes text not null,
  constraint meters_factor CHECK ((factor > (0)::numeric)),
  constraint meters_finite CHECK ((factor < 'Infinity'::numeric)),
  constraint meters_kind CHECK ((kind = ANY (ARRAY['level'::text, 'count'::text]))),
  constraint meters_pkey PRIMARY KEY (meter)
);

create table billing.outbox (
  id bigint generated always as identity not null,
  sink text not null,
  event text not null,
  body jsonb not null,
  tries integer not null default 0,
  next_at timestamp with time zone not null,
  sent_at timestamp with time zone,
  constraint outbox_sink_sinks_id_fk FOREIGN KEY (sink) REFERENCES billing.sinks(id) ON DELETE CASCADE,
  constraint outbox_pkey PRIMARY KEY (id)
);

create table billing.plan_included (
  plan text not null,
  meter text not null,
  quantity numeric not null,
  constraint plan_included_finite CHECK ((quantity < 'Infinity'::numeric)),
  constraint plan_included_quantity CHECK ((quantity > (0)::numeric)),
  constraint plan_included_meter_meters_meter_fk FOREIGN KEY (meter) REFERENCES billing.meters(meter),
  constraint plan_included_plan_plans_id_fk FOREIGN KEY (plan) REFERENCES billing.plans(id),
  constraint plan_included_plan_meter_pk PRIMARY KEY (plan, meter)
);

create table billing.plans (
  id text not null,
  list text not null,
  minimum numeric,
  cap numeric,
  created_at timestamp with time zone not null default now(),
  constraint plans_bounds CHECK ((((0)::numeric <= minimum) AND (COALESCE(minimum, (0)::numeric) <= cap))),
  constraint plans_finite CHECK (((minimum < 'Infinity'::numeric) AND (cap < 'Infinity'::numeric))),
  constraint plans_list_price_lists_id_fk FOREIGN KEY (list) REFERENCES billing.price_lists(id),
  constraint plans_pkey PRIMARY KEY (id)
);

create table billing.price_lists (
  id text not null,
  currency character(3) not null,
  account text,
  created_at timestamp with time zone not null default now(),
  constraint price_lists_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint price_lists_pkey PRIMARY KEY (id)
);

create table billing.prices (
  list text not null,
  meter text not null,
  from_day date not null,
  price numeric not null,
  constraint prices_finite CHECK ((price < 'Infinity'::numeric)),
  constraint prices_price CHECK ((price >= (0)::numeric)),
  constraint prices_list_price_lists_id_fk FOREIGN KEY (list) REFERENCES billing.price_lists(id),
  constraint prices_meter_meters_meter_fk FOREIGN KEY (meter) REFERENCES billing.meters(meter),
  constraint prices_list_meter_from_day_pk PRIMARY KEY (list, meter, from_day)
);

create table billing.rollups (
  "window" date not null,
  day date not null,
  account text not null,
  template text not null,
  meter text not null,
  quantity numeric not null,
  amount numeric not null,
  currency character(3) not null,
  constraint rollups_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint rollups_window_windows_day_fk FOREIGN KEY ("window") REFERENCES billing.windows(day),
  constraint rollups_account_day_meter_template_window_currency_pk PRIMARY KEY (account, day, meter, template, "window", currency)
);

create table billing.settled (
  "only" boolean not null default true,
  "interval" bigint not null default 0,
  entry bigint not null default 0,
  constraint settled_only CHECK ("only"),
  constraint settled_pkey PRIMARY KEY ("only")
);

create table billing.sinks (
  id text not null,
  kind text not null,
  account text,
  settings jsonb not null,
  "interval" bigint not null default 0,
  created_at timestamp with time zone not null,
  last_error text,
  constraint sinks_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint sinks_pkey PRIMARY KEY (id)
);

create table billing.subscriptions (
  account text not null,
  from_day date not null,
  plan text not null,
  constraint subscriptions_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint subscriptions_plan_plans_id_fk FOREIGN KEY (plan) REFERENCES billing.plans(id),
  constraint subscriptions_account_from_day_pk PRIMARY KEY (account, from_day)
);

create table billing.windows (
  day date not null,
  closed_at timestamp with time zone,
  constraint windows_pkey PRIMARY KEY (day)
);

create table idempotency_keys (
  account text not null,
  key text not null,
  request_hash text not null,
  sandbox text not null,
  at timestamp with time zone not null,
  constraint idempotency_keys_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint idempotency_keys_sandbox_sandboxes_id_fk FOREIGN KEY (sandbox) REFERENCES sandboxes(id) ON DELETE CASCADE,
  constraint idempotency_keys_account_key_pk PRIMARY KEY (account, key)
);

create table moves (
  sandbox text not null,
  sequence integer not null,
  account text not null,
  template text not null,
  cpu integer not null,
  memory_mib integer not null,
  from_state text,
  to_state text not null,
  event text not null,
  reason text,
  network_out_bytes bigint,
  network_in_bytes bigint,
  network_connections integer,
  monotonic_ms double precision not null,
  at timestamp with time zone not null,
  cpu_used_ms bigint,
  constraint moves_sequence CHECK ((sequence >= 1)),
  constraint moves_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint moves_sandbox_sandboxes_id_fk FOREIGN KEY (sandbox) REFERENCES sandboxes(id) ON DELETE CASCADE,
  constraint moves_sandbox_sequence_pk PRIMARY KEY (sandbox, sequence)
);

create table port_labels (
  account text not null,
  sandbox text not null,
  port integer not null,
  label text,
  constraint port_labels_port CHECK (((port >= 1) AND (port <= 65535))),
  constraint port_labels_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint port_labels_account_sandbox_port_pk PRIMARY KEY (account, sandbox, port)
);

create table sandboxes (
  id text not null,
  account text not null,
  template text not null,
  cpu integer not null,
  memory_mib integer not null,
  state text not null,
  reason text,
  last_sequence integer not null default 0,
  node text not null,
  created_at timestamp with time zone not null,
  ended_at timestamp with time zone,
  booked boolean not null default false,
  info jsonb,
  labels jsonb not null default '{}'::jsonb,
  forgotten boolean not null default false,
  open_since_ms bigint,
  seen_ms bigint,
  open_cpu_used_ms bigint not null default 0,
  open_egress_bytes bigint not null default 0,
  constraint sandboxes_size CHECK (((cpu > 0) AND (memory_mib > 0))),
  constraint sandboxes_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint sandboxes_pkey PRIMARY KEY (id)
);

create table secrets (
  name text not null,
  value text not null,
  constraint secrets_pkey PRIMARY KEY (name)
);

create table stored (
  account text not null,
  kind text not null,
  id text not null,
  size_bytes bigint not null,
  monotonic_ms double precision not null,
  at timestamp with time zone not null,
  node text not null,
  constraint stored_size CHECK ((size_bytes >= 0)),
  constraint stored_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint stored_account_kind_id_at_monotonic_ms_pk PRIMARY KEY (account, kind, id, at, monotonic_ms)
);

create table stored_now (
  account text not null,
  kind text not null,
  id text not null,
  size_bytes bigint not null,
  at timestamp with time zone not null,
  monotonic_ms double precision not null,
  since_ms bigint,
  node text not null default ''::text,
  constraint stored_now_size CHECK ((size_bytes >= 0)),
  constraint stored_now_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint stored_now_account_kind_id_pk PRIMARY KEY (account, kind, id)
);

create table webhook_deliveries (
  id text not null,
  webhook text not null,
  body text not null,
  tries integer not null default 0,
  next_at timestamp with time zone not null,
  constraint webhook_deliveries_webhook_webhooks_id_fk FOREIGN KEY (webhook) REFERENCES webhooks(id) ON DELETE CASCADE,
  constraint webhook_deliveries_pkey PRIMARY KEY (id)
);

create table webhooks (
  id text not null,
  account text not null,
  url text not null,
  events jsonb not null,
  secret text not null,
  created_at timestamp with time zone not null,
  last_at timestamp with time zone,
  last_status integer,
  constraint webhooks_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id) ON DELETE CASCADE,
  constraint webhooks_pkey PRIMARY KEY (id)
);

create type billing.stretch as (
  account text,
  subject text,
  template text,
  meter text,
  units bigint,
  from_ms bigint,
  to_ms bigint,
  micros integer
);

CREATE INDEX api_keys_account ON public.api_keys USING btree (account);
CREATE INDEX audit_log_account ON public.audit_log USING btree (account, at);
CREATE INDEX audit_log_at ON public.audit_log USING btree (at);
CREATE INDEX intervals_account ON billing.intervals USING btree (account, lower(during));
CREATE INDEX intervals_subject ON billing.intervals USING btree (subject);
CREATE INDEX intervals_when ON billing.intervals USING brin (lower(during));
CREATE UNIQUE INDEX invoices_month ON billing.invoices USING btree (account, month, currency);
CREATE INDEX ledger_account ON billing.ledger USING btree (account, day);
CREATE UNIQUE INDEX ledger_charge ON billing.ledger USING btree ("interval") WHERE (kind = 'charge'::text);
CREATE UNIQUE INDEX ledger_corrected ON billing.ledger USING btree (corrects, kind) WHERE (corrects IS NOT NULL);
CREATE INDEX outbox_due ON billing.outbox USING btree (sink, next_at);
CREATE UNIQUE INDEX outbox_event ON billing.outbox USING btree (sink, event);
CREATE INDEX rollups_day ON billing.rollups USING btree (day);
CREATE INDEX idempotency_keys_at ON public.idempotency_keys USING btree (at);
CREATE INDEX idempotency_keys_sandbox ON public.idempotency_keys USING btree (sandbox);
CREATE INDEX moves_account ON public.moves USING btree (account, at);
CREATE INDEX sandboxes_ended ON public.sandboxes USING btree (ended_at) WHERE ((ended_at IS NOT NULL) AND (NOT forgotten));
CREATE INDEX sandboxes_open ON public.sandboxes USING btree (account) WHERE (ended_at IS NULL);
CREATE INDEX sandboxes_open_node ON public.sandboxes USING btree (node) WHERE (ended_at IS NULL);
CREATE INDEX stored_at ON public.stored USING btree (at);
CREATE INDEX webhook_deliveries_due ON public.webhook_deliveries USING btree (next_at);
CREATE INDEX webhook_deliveries_webhook ON public.webhook_deliveries USING btree (webhook);
CREATE INDEX webhooks_account ON public.webhooks USING btree (account);

create view billing.invoice_lines as
 SELECT i.id AS invoice,
    i.account,
    (i.bill_to ->> 'name'::text) AS bill_to,
    i.month,
    i.issued_at,
    i.plan,
    l.line,
    l.kind,
    l.meter,
    l.describes,
    l.quantity AS units,
    m.unit,
    l.price,
    l.amount,
    (i.currency)::text AS currency,
    i.total AS invoice_total
   FROM ((billing.invoices i
     JOIN billing.invoice_lines_kept l ON ((l.invoice = i.id)))
     LEFT JOIN billing.meters m ON ((m.meter = l.meter)));

create view billing.open_time as
 SELECT s.account,
    s.id AS subject,
    s.template,
    c.meter,
    c.units,
    billing.instant(s.open_since_ms) AS since,
    billing.instant(s.seen_ms) AS seen
   FROM sandboxes s,
    LATERAL billing.charged(s.state, (s.cpu)::bigint, (s.memory_mib)::bigint) c(meter, units)
  WHERE ((s.ended_at IS NULL) AND (s.open_since_ms IS NOT NULL))
UNION ALL
 SELECT n.account,
    billing.stored_subject(n.account, n.kind, n.id) AS subject,
        CASE n.kind
            WHEN 'image'::text THEN ( SELECT sandboxes.template
               FROM sandboxes
              WHERE (sandboxes.id = n.id))
            WHEN 'template'::text THEN n.id
            ELSE NULL::text
        END AS template,
    billing.stored_meter(n.kind) AS meter,
    billing.stored_units(n.kind, n.size_bytes) AS units,
    billing.instant(n.since_ms) AS since,
        CASE
            WHEN (n.kind = ANY (ARRAY['ready'::text, 'build'::text])) THEN billing.instant(n.since_ms)
            ELSE 'infinity'::timestamp with time zone
        END AS seen
   FROM stored_now n
  WHERE (n.since_ms IS NOT NULL);

create view billing.rates as
 WITH held AS (
         SELECT accounts.id AS account,
            NULL::text AS plan,
            'default'::text AS list,
            '-infinity'::date AS from_day,
            ( SELECT min(s.from_day) AS min
                   FROM billing.subscriptions s
                  WHERE (s.account = accounts.id)) AS until_day
           FROM accounts
        UNION ALL
         SELECT s.account,
            s.plan,
            p.list,
            s.from_day,
            ( SELECT min(n.from_day) AS min
                   FROM billing.subscriptions n
                  WHERE ((n.account = s.account) AND (n.from_day > s.from_day))) AS min
           FROM (billing.subscriptions s
             JOIN billing.plans p ON ((p.id = s.plan)))
        ), priced AS (
         SELECT p.list,
            p.meter,
            p.price,
            p.from_day,
            l.currency,
            m.factor,
            ( SELECT min(n.from_day) AS min
                   FROM billing.prices n
                  WHERE ((n.list = p.list) AND (n.meter = p.meter) AND (n.from_day > p.from_day))) AS until_day
           FROM ((billing.prices p
             JOIN billing.price_lists l ON ((l.id = p.list)))
             JOIN billing.meters m ON ((m.meter = p.meter)))
        )
 SELECT held.account,
    priced.meter,
    GREATEST(held.from_day, priced.from_day) AS from_day,
    LEAST(held.until_day, priced.until_day) AS until_day,
    held.plan,
    held.list,
    priced.price,
    priced.factor,
    priced.currency
   FROM (held
     JOIN priced ON (((priced.list = held.list) AND (GREATEST(held.from_day, priced.from_day) < COALESCE(LEAST(held.until_day, priced.until_day), 'infinity'::date)))));

create view billing.usage_by_day as
 SELECT s.account,
    a.name AS account_name,
    s.day,
    s.meter,
    s.quantity,
    trim_scale((s.quantity * m.factor)) AS units,
    m.unit,
    trim_scale(s.amount) AS amount,
    (s.currency)::text AS currency
   FROM ((( SELECT rollups.account,
            rollups.day,
            rollups.meter,
            rollups.currency,
            sum(rollups.quantity) AS quantity,
            sum(rollups.amount) AS amount
           FROM billing.rollups
          GROUP BY rollups.account, rollups.day, rollups.meter, rollups.currency) s
     JOIN billing.meters m ON ((m.meter = s.meter)))
     JOIN accounts a ON ((a.id = s.account)));

create view billing.usage_by_label as
 SELECT l.account,
    a.name AS account_name,
    label.key AS label,
    label.value,
    l.day,
    l.meter,
    sum(l.quantity) AS quantity,
    trim_scale((sum(l.quantity) * m.factor)) AS units,
    m.unit,
    trim_scale(sum(l.amount)) AS amount,
    (l.currency)::text AS currency
   FROM ((((billing.ledger l
     JOIN billing.intervals i ON ((i.id = l."interval")))
     JOIN billing.meters m ON ((m.meter = l.meter)))
     JOIN accounts a ON ((a.id = l.account)))
     JOIN sandboxes s ON (((s.id = i.subject) AND (s.account = l.account)))),
    LATERAL jsonb_each_text(s.labels) label(key, value)
  GROUP BY l.account, a.name, label.key, label.value, l.day, l.meter, m.factor, m.unit, l.currency;

create view billing.usage_by_sandbox as
 SELECT l.account,
    a.name AS account_name,
    i.subject AS sandbox,
    l.template,
    l.day,
    l.meter,
    sum(l.quantity) AS quantity,
    trim_scale((sum(l.quantity) * m.factor)) AS units,
    m.unit,
    trim_scale(sum(l.amount)) AS amount,
    (l.currency)::text AS currency
   FROM (((billing.ledger l
     JOIN billing.intervals i ON ((i.id = l."interval")))
     JOIN billing.meters m ON ((m.meter = l.meter)))
     JOIN accounts a ON ((a.id = l.account)))
  GROUP BY l.account, a.name, i.subject, l.template, l.day, l.meter, m.factor, m.unit, l.currency;

create view billing.usage_by_template as
 SELECT s.account,
    a.name AS account_name,
    NULLIF(s.template, ''::text) AS template,
    s.day,
    s.meter,
    s.quantity,
    trim_scale((s.quantity * m.factor)) AS units,
    m.unit,
    trim_scale(s.amount) AS amount,
    (s.currency)::text AS currency
   FROM ((( SELECT rollups.account,
            rollups.template,
            rollups.day,
            rollups.meter,
            rollups.currency,
            sum(rollups.quantity) AS quantity,
            sum(rollups.amount) AS amount
           FROM billing.rollups
          GROUP BY rollups.account, rollups.template, rollups.day, rollups.meter, rollups.currency) s
     JOIN billing.meters m ON ((m.meter = s.meter)))
     JOIN accounts a ON ((a.id = s.account)));

CREATE OR REPLACE FUNCTION billing.bill_to(of_account text)
 RETURNS jsonb
 LANGUAGE sql
 STABLE
AS $function$
  SELECT coalesce(bill_to, jsonb_build_object('name', name, 'address', jsonb_build_array(), 'taxId', NULL))
  FROM accounts WHERE id = of_account
$function$;

CREATE OR REPLACE FUNCTION billing.charge(in_window date, after_id bigint, most integer, OUT charged integer, OUT last_id bigint)
 RETURNS record
 LANGUAGE plpgsql
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
BEGIN
  WITH fresh AS MATERIALIZED (
    SELECT i.id, i.account, i.template, i.meter, i.quantity, (lower(i.during) AT TIME ZONE 'UTC')::date AS day
    FROM billing.intervals i
    WHERE i.id > after_id AND NOT EXISTS (
      SELECT FROM billing.ledger l WHERE l.interval = i.id AND l.interval > after_id AND l.kind = 'charge')
    ORDER BY i.id LIMIT most
  ), rates AS MATERIALIZED (
    SELECT asked.*, r.list, coalesce(r.price, 0) AS price, coalesce(r.price * r.factor, 0) AS costs,
      coalesce(r.currency, (SELECT t.currency FROM billing.terms(asked.account, asked.day) AS t)) AS currency
    FROM (SELECT DISTINCT account, meter, day FROM fresh) AS asked LEFT JOIN LATERAL (
      SELECT * FROM billing.rates WHERE account = asked.account AND meter = asked.meter
        AND from_day <= asked.day AND (until_day IS NULL OR asked.day < until_day) OFFSET 0
    ) AS r ON true
  ), booked AS (
    INSERT INTO billing.ledger (account, kind, "interval", "window", day, meter, template, quantity, list, price, amount, currency)
    SELECT f.account, 'charge', f.id, in_window, f.day, f.meter, f.template, f.quantity, r.list, r.price, f.quantity * r.costs, r.currency
    FROM fresh f JOIN rates r USING (account, meter, day) ORDER BY f.id
    RETURNING "interval"
  )
  SELECT count(*), max("interval") INTO charged, last_id FROM booked;
END $function$;

CREATE OR REPLACE FUNCTION billing.charged(state text, vcpus bigint, memory_mib bigint)
 RETURNS TABLE(meter text, units bigint)
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
AS $function$
  SELECT c.meter, c.units FROM (VALUES
    ('running', 'vcpu_ms', vcpus), ('running', 'memory_mib_ms', memory_mib), ('paused', 'paused_memory_mib_ms', memory_mib)
  ) AS c(state, meter, units) WHERE c.state = charged.state
$function$;

CREATE OR REPLACE FUNCTION billing.correct(of_entry bigint, new_quantity bigint, why text, now_at timestamp with time zone)
 RETURNS jsonb
 LANGUAGE plpgsql
AS $function$
DECLARE
  old billing.ledger%ROWTYPE;
  costs numeric;
  open_day date;
  ids bigint[];
BEGIN
  PERFORM billing.lock_books();
  SELECT * INTO old FROM billing.ledger WHERE id = of_entry;
  IF NOT FOUND THEN
    RETURN jsonb_build_object('kind', 'not-found');
  ELSIF old.kind = 'reversal' THEN
    RETURN jsonb_build_object('kind', 'reversal');
  ELSIF EXISTS (SELECT FROM billing.ledger WHERE corrects = of_entry) THEN
    RETURN jsonb_build_object('kind', 'corrected');
  END IF;
  open_day := billing.open_window(least(now_at, billing.latest()));
  costs := old.price * (SELECT factor FROM billing.meters WHERE meter = old.meter);
  WITH written AS (
    INSERT INTO billing.ledger (account, kind, "interval", corrects, "window", day, meter, template, quantity, list, price, amount, currency, reason)
    SELECT old.account, k.kind, old.interval, old.id, open_day, old.day, old.meter, old.template, k.quantity, old.list, old.price, k.amount, old.currency, why
    FROM (VALUES ('reversal', -old.quantity, -old.amount), ('correction', new_quantity, new_quantity * costs)) AS k(kind, quantity, amount)
    WHERE k.quantity IS NOT NULL
    RETURNING id
  )
  SELECT array_agg(id ORDER BY id) INTO ids FROM written;
  UPDATE accounts SET credit_usd = credit_usd + old.amount - coalesce(new_quantity * costs, 0)
  WHERE id = old.account AND credit_usd IS NOT NULL AND old.currency = 'USD';
  PERFORM billing.roll_up();
  RETURN jsonb_build_object('kind', 'done', 'entries', to_jsonb(ids::text[]));
END $function$;

CREATE OR REPLACE FUNCTION billing.cut(until timestamp with time zone, most integer)
 RETURNS bigint
 LANGUAGE plpgsql
 SET plan_cache_mode TO 'force_generic_plan'
 SET jit TO 'off'
AS $function$
DECLARE
  day_ms CONSTANT bigint := 86400000;
  settled_ms CONSTANT bigint := 60000;
  last_ms bigint := (floor(extract(epoch FROM least(until, billing.latest())) * 1000)::bigint - settled_ms) / day_ms * day_ms;
  owners text[];
  kinds text[];
  ids text[];
  stretches billing.stretch[];
BEGIN
  WITH due AS (
    SELECT account, NULL AS kind, id, open_since_ms AS from_ms, least(last_ms, (seen_ms - settled_ms) / day_ms * day_ms) AS to_ms
    FROM sandboxes
    WHERE ended_at IS NULL AND open_since_ms < last_ms AND open_since_ms < (seen_ms - settled_ms) / day_ms * day_ms
    UNION ALL
    SELECT account, kind, id, since_ms, last_ms FROM stored_now WHERE since_ms < last_ms AND kind NOT IN ('ready', 'build')
    ORDER BY account LIMIT most
  ), counted AS (
    SELECT due.*, coalesce(sum((to_ms - 1) / day_ms - from_ms / day_ms + 1) OVER (ORDER BY account, kind, id
      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS before
    FROM due
  )
  SELECT array_agg(account), array_agg(kind), array_agg(id) INTO owners, kinds, ids FROM counted WHERE before < most;
  PERFORM FROM accounts WHERE id = ANY (owners) ORDER BY id FOR NO KEY UPDATE;
  PERFORM FROM sandboxes WHERE id IN (SELECT t.id FROM unnest(kinds, ids) AS t(kind, id) WHERE t.kind IS NULL)
  ORDER BY id FOR NO KEY UPDATE;
  -- As they are now: they may have moved on until they were locked.
  WITH due AS (
    SELECT s.*, least(last_ms, (s.seen_ms - settled_ms) / day_ms * day_ms) AS to_ms
    FROM unnest(kinds, ids) AS t(kind, id) JOIN sandboxes s ON s.id = t.id WHERE t.kind IS NULL AND s.ended_at IS NULL
  ), moved AS (
    UPDATE sandboxes SET open_since_ms = due.to_ms FROM due
    WHERE sandboxes.id = due.id AND due.open_since_ms < due.to_ms
  ), kept AS (
    SELECT n.* FROM unnest(owners, kinds, ids) AS t(account, kind, id)
      JOIN stored_now n ON n.account = t.account AND n.kind = t.kind AND n.id = t.id WHERE n.since_ms < last_ms
  ), kept_moved AS (
    UPDATE stored_now AS n SET since_ms = last_ms FROM kept
    WHERE n.account = kept.account AND n.kind = kept.kind AND n.id = kept.id
  ), parts AS (
    SELECT due.account, due.id, due.template, c.meter, c.units, due.open_since_ms, due.to_ms, 0
    FROM due, LATERAL billing.charged(due.state, due.cpu, due.memory_mib) AS c WHERE due.open_since_ms < due.to_ms
    UNION ALL
    SELECT kept.account, billing.stored_subject(kept.account, kept.kind, kept.id),
      CASE kept.kind WHEN 'image' THEN (SELECT template FROM sandboxes WHERE sandboxes.id = kept.id) WHEN 'template' THEN kept.id END,
      billing.stored_meter(kept.kind), billing.stored_units(kept.kind, kept.size_bytes), kept.since_ms, last_ms, 0
    FROM kept
  )
  SELECT array_agg(ROW(parts.*)::billing.stretch) INTO stretches FROM parts;
  PERFORM billing.write(stretches);
  RETURN coalesce(cardinality(stretches), 0);
END $function$;

CREATE OR REPLACE FUNCTION billing.instant(ms bigint)
 RETURNS timestamp with time zone
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN to_timestamp(((ms)::double precision / (1000)::double precision));

CREATE OR REPLACE FUNCTION billing.invoiced(of_account text, of_month date, of_currency text, up_to bigint)
 RETURNS TABLE(month date, kind text, amount numeric, before bigint)
 LANGUAGE sql
 STABLE
AS $function$
  WITH before AS (
    SELECT (i.month + interval '1 month')::date AS ends, i.up_to_entry FROM billing.invoices i
    WHERE i.account = of_account AND i.currency = of_currency AND i.month < of_month ORDER BY i.month DESC LIMIT 1
  ), late_days AS (
    -- Rollups say of which days: the ledger has no index of when entries were booked.
    SELECT DISTINCT r.day FROM billing.rollups r, before
    WHERE r.account = of_account AND r.day < before.ends AND r."window" >= before.ends - 1
  )
  SELECT date_trunc('month', l.day)::date, l.kind, l.amount, 0 FROM billing.ledger l
  WHERE l.account = of_account AND l.currency = of_currency AND l.id <= up_to AND l.price > 0
    AND l.day >= coalesce((SELECT ends FROM before), '-infinity') AND l.day < (of_month + interval '1 month')::date
  UNION ALL
  SELECT date_trunc('month', l.day)::date, l.kind, l.amount, before.up_to_entry
  FROM late_days JOIN billing.ledger l ON l.account = of_account AND l.day = late_days.day, before
  WHERE l.currency = of_currency AND l.id > before.up_to_entry AND l.id <= up_to AND l.price > 0
$function$;

CREATE OR REPLACE FUNCTION billing.issue(of_month date, now_at timestamp with time zone, OUT issued integer, OUT more boolean)
 RETURNS record
 LANGUAGE plpgsql
AS $function$
DECLARE
  until_at timestamptz := clock_timestamp() + interval '2 seconds';
  last_day date := (of_month + interval '1 month')::date - 1;
  last_entry bigint := coalesce((SELECT max(id) FROM billing.ledger), 0);
  due record;
  number integer;
BEGIN
  issued := 0;
  more := false;
  SELECT coalesce(max(substr(id, 9)::integer), 0) INTO number FROM billing.invoices WHERE month = of_month;
  FOR due IN
    SELECT o.account, o.currency FROM (
      SELECT account, currency::text FROM billing.rollups
      WHERE amount <> 0 AND day <= last_day AND (day >= of_month OR "window" >= of_month - 1)
      UNION
      SELECT a.id, t.currency FROM accounts a, LATERAL billing.terms(a.id, last_day) AS t
      JOIN billing.plans p ON p.id = t.plan WHERE p.minimum > 0
    ) AS o(account, currency)
    WHERE NOT EXISTS (SELECT FROM billing.invoices i
      WHERE i.account = o.account AND i.month = of_month AND i.currency = o.currency)
    ORDER BY o.account, o.currency
  LOOP
    IF issued > 0 AND clock_timestamp() > until_at THEN
      more := true;
      EXIT;
    END IF;
    number := number + 1;
    issued := issued + 1;
    WITH lines AS MATERIALIZED (
      SELECT * FROM billing.lines(due.account, of_month, due.currency, last_entry)
    ), invoice AS (
      INSERT INTO billing.invoices (id, account, month, currency, plan, total, issued_at, up_to_entry, bill_to)
      SELECT to_char(of_month, 'YYYY-MM-') || lpad(number::text, greatest(4, length(number::text)), '0'), due.account, of_month,
        due.currency, t.plan, coalesce((SELECT sum(amount) FROM lines), 0), now_at, last_entry, billing.bill_to(due.account)
      FROM billing.terms(due.account, last_day) AS t
      RETURNING id
    )
    INSERT INTO billing.invoice_lines_kept (invoice, line, kind, meter, describes, quantity, price, amount)
    SELECT invoice.id, l.line, l.kind, l.meter, l.describes, l.quantity, l.price, l.amount FROM lines l, invoice;
    -- Credit fell by prices alone: what the plan includes, or caps, comes back to it.
    UPDATE accounts SET credit_usd = credit_usd + greatest(0, u.amount - t.amount)
    FROM (SELECT coalesce(sum(amount), 0) FROM billing.invoiced(due.account, of_month, due.currency, last_entry)) AS u(amount),
      (SELECT coalesce(sum(l.amount), 0) FROM billing.invoices i JOIN billing.invoice_lines_kept l ON l.invoice = i.id
        WHERE i.account = due.account AND i.month = of_month AND i.currency = due.currency AND l.kind <> 'credit') AS t(amount)
    WHERE accounts.id = due.account AND credit_usd IS NOT NULL AND due.currency = 'USD' AND u.amount > t.amount;
  END LOOP;
END $function$;

CREATE OR REPLACE FUNCTION billing.latest()
 RETURNS timestamp with time zone
 LANGUAGE sql
 STABLE
AS $function$ SELECT now() $function$;

CREATE OR REPLACE FUNCTION billing.lines(of_account text, of_month date, of_currency text, up_to bigint)
 RETURNS TABLE(line integer, kind text, meter text, describes text, quantity numeric, unit text, price numeric, amount numeric)
 LANGUAGE sql
 STABLE
AS $function$
  WITH entries AS MATERIALIZED (
    SELECT * FROM billing.invoiced(of_account, of_month, of_currency, up_to)
  ), earlier AS (
    SELECT e.month, CASE WHEN bool_or(e.kind <> 'charge') THEN 'correction' ELSE 'late' END AS kind, max(e.before) AS before
    FROM entries e WHERE e.month < of_month GROUP BY e.month
  ), lines AS (
    SELECT array_position(ARRAY['usage', 'included', 'correction', 'minimum', 'cap'], l.kind) AS place, of_month AS month, l.*
    FROM billing.month_lines(of_account, of_month, of_currency, up_to) AS l
    UNION ALL
    SELECT 6, e.month, e.kind, NULL, CASE e.kind WHEN 'late' THEN 'Told of late: used in ' ELSE 'Correction of ' END
      || to_char(e.month, 'YYYY-MM'), NULL, NULL, NULL,
      (SELECT coalesce(sum(l.amount), 0) FROM billing.month_lines(of_account, e.month, of_currency, up_to) AS l)
      - (SELECT coalesce(sum(l.amount), 0) FROM billing.month_lines(of_account, e.month, of_currency, e.before) AS l WHERE e.before > 0)
    FROM earlier e
  ), paid AS (
    SELECT least((SELECT coalesce(sum(l.amount), 0) FROM lines l),
      billing.rounded((SELECT coalesce(sum(e.amount), 0) FROM entries e), of_currency)) AS amount
    FROM accounts a WHERE a.id = of_account AND a.credit_usd IS NOT NULL AND of_currency = 'USD'
  ), of_all AS (
    SELECT * FROM lines
    UNION ALL
    SELECT 7, of_month, 'credit', NULL, 'Paid from prepaid credit', NULL, NULL, NULL, -paid.amount FROM paid WHERE paid.amount <> 0
  )
  SELECT row_number() OVER (ORDER BY a.place, a.month, a.meter, a.price)::integer,
    a.kind, a.meter, a.describes, a.quantity, a.unit, a.price, a.amount
  FROM of_all a
$function$;

CREATE OR REPLACE FUNCTION billing.lock_books()
 RETURNS void
 LANGUAGE sql
AS $function$ SELECT pg_advisory_xact_lock(7287036222) $function$;

CREATE OR REPLACE FUNCTION billing.month_lines(of_account text, of_month date, of_currency text, up_to bigint)
 RETURNS TABLE(kind text, meter text, describes text, quantity numeric, unit text, price numeric, amount numeric)
 LANGUAGE sql
 STABLE
AS $function$
  WITH entries AS MATERIALIZED (
    SELECT l.kind = 'charge' AS is_charge, l.meter, l.day, l.price, l.quantity, l.amount FROM billing.ledger l
    WHERE l.account = of_account AND l.currency = of_currency AND l.id <= up_to AND l.price > 0
      AND l.day >= of_month AND l.day < (of_month + interval '1 month')::date
  ), plan AS (
    SELECT p.id, p.minimum, p.cap
    FROM billing.terms(of_account, (of_month + interval '1 month')::date - 1) AS t JOIN billing.plans p ON p.id = t.plan
    WHERE t.currency = of_currency
  ), used AS (
    SELECT e.meter, e.day, e.price, sum(e.quantity) AS quantity,
      coalesce(sum(sum(e.quantity)) OVER (PARTITION BY e.meter ORDER BY e.day, e.price
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS earlier
    FROM entries e GROUP BY e.meter, e.day, e.price
  ), sums AS (
    SELECT CASE WHEN e.is_charge THEN 'usage' ELSE 'correction' END AS kind, e.meter, e.price, sum(e.quantity) AS quantity,
      sum(e.amount) AS amount
    FROM entries e GROUP BY 1, 2, 3
    UNION ALL
    SELECT 'included', u.meter, u.price, -sum(least(u.quantity, i.quantity - u.earlier)),
      -sum(least(u.quantity, i.quantity - u.earlier)) * m.factor * u.price
    FROM used u JOIN plan ON true JOIN billing.plan_included i ON i.plan = plan.id AND i.meter = u.meter
      JOIN billing.meters m ON m.meter = u.meter
    WHERE least(u.quantity, i.quantity - u.earlier) > 0 GROUP BY u.meter, u.price, m.factor
  ), lines AS (
    SELECT s.kind, s.meter, CASE s.kind WHEN 'included' THEN 'Included in the plan: ' WHEN 'correction' THEN 'Correction: ' ELSE '' END
      || m.describes AS describes, trim_scale(s.quantity * m.factor) AS quantity, m.unit, trim_scale(s.price) AS price,
      billing.rounded(s.amount, of_currency) AS amount
    FROM sums s JOIN billing.meters m ON m.meter = s.meter
  ), total AS (
    SELECT coalesce(sum(l.amount), 0) AS own FROM lines l
  )
  SELECT l.kind, l.meter, l.describes, l.quantity, l.unit, l.price, l.amount FROM lines l
  UNION ALL
  SELECT 'minimum', NULL, 'Up to the minimum of the plan ' || plan.id, NULL, NULL, NULL, billing.rounded(plan.minimum, of_currency) - own
  FROM plan, total WHERE own < billing.rounded(plan.minimum, of_currency)
  UNION ALL
  SELECT 'cap', NULL, 'Above the cap of the plan ' || plan.id, NULL, NULL, NULL, billing.rounded(plan.cap, of_currency) - own
  FROM plan, total WHERE own > billing.rounded(plan.cap, of_currency)
$function$;

CREATE OR REPLACE FUNCTION billing.open_cost(of_account text, now_ms bigint)
 RETURNS numeric
 LANGUAGE plpgsql
 STABLE
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
  usd numeric;
BEGIN
  now_ms := floor(extract(epoch FROM least(billing.instant(now_ms), billing.latest())) * 1000)::bigint;
  WITH rates AS MATERIALIZED (
    SELECT meter, from_day, until_day, price * factor AS costs FROM billing.rates WHERE account = of_account AND currency = 'USD'
  ), used AS (
    SELECT c.meter, DATE '1970-01-01' + d::integer AS day,
      sum(c.units * (least(o.to_ms, (d + 1) * 86400000) - greatest(o.from_ms, d * 86400000))) AS quantity
    FROM (
      SELECT state, cpu, memory_mib, open_since_ms AS from_ms, greatest(seen_ms, least(now_ms, seen_ms + 60000)) AS to_ms
      FROM sandboxes WHERE account = of_account AND ended_at IS NULL AND open_since_ms IS NOT NULL
    ) AS o, LATERAL generate_series(o.from_ms / 86400000, (o.to_ms - 1) / 86400000) AS d,
      LATERAL billing.charged(o.state, o.cpu, o.memory_mib) AS c
    WHERE o.from_ms < o.to_ms GROUP BY 1, 2
    UNION ALL
    SELECT billing.stored_meter(n.kind), part.day,
      sum(billing.quantity(billing.stored_meter(n.kind), billing.stored_units(n.kind, n.size_bytes), part.from_at, part.to_at))
    FROM stored_now n, LATERAL billing.split(n.since_ms, now_ms) AS part
    WHERE n.account = of_account AND n.since_ms IS NOT NULL AND n.kind NOT IN ('ready', 'build') GROUP BY 1, 2
    UNION ALL
    SELECT c.meter, (billing.instant(s.seen_ms) AT TIME ZONE 'UTC')::date, sum(c.units)
    FROM sandboxes s, LATERAL (VALUES ('cpu_used_ms', s.open_cpu_used_ms), ('egress_bytes', s.open_egress_bytes)) AS c(meter, units)
    WHERE s.account = of_account AND s.ended_at IS NULL AND s.open_since_ms IS NOT NULL AND c.units > 0 GROUP BY 1, 2
  )
  SELECT coalesce(sum(used.quantity * rates.costs), 0) INTO usd FROM used JOIN rates
    ON rates.meter = used.meter AND rates.from_day <= used.day AND (rates.until_day IS NULL OR used.day < rates.until_day);
  RETURN usd;
END $function$;

CREATE OR REPLACE FUNCTION billing.open_window(now_at timestamp with time zone)
 RETURNS date
 LANGUAGE plpgsql
AS $function$
DECLARE
  open_day date;
BEGIN
  SELECT max(day) INTO open_day FROM billing.windows WHERE closed_at IS NULL;
  IF open_day IS NULL THEN
    open_day := ((now_at - interval '10 minutes') AT TIME ZONE 'UTC')::date;
    INSERT INTO billing.windows (day) VALUES (open_day);
  END IF;
  RETURN open_day;
END $function$;

CREATE OR REPLACE FUNCTION billing.quantity(meter text, units bigint, from_at timestamp with time zone, to_at timestamp with time zone)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN (from_at = to_at) THEN units WHEN ("right"(meter, 2) = '_s'::text) THEN (units * ((floor(EXTRACT(epoch FROM (to_at - to_timestamp((0)::double precision)))))::bigint - (floor(EXTRACT(epoch FROM (from_at - to_timestamp((0)::double precision)))))::bigint)) ELSE (units * ((floor((EXTRACT(epoch FROM (to_at - to_timestamp((0)::double precision))) * (1000)::numeric)))::bigint - (floor((EXTRACT(epoch FROM (from_at - to_timestamp((0)::double precision))) * (1000)::numeric)))::bigint)) END;

CREATE OR REPLACE FUNCTION billing.refuse()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  RAISE EXCEPTION '% of billing.% is refused: its rows are only ever added', lower(TG_OP), TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation';
END $function$;

CREATE OR REPLACE FUNCTION billing.refuse_begun_plan()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  IF TG_OP <> 'INSERT' AND OLD.from_day <= billing.today() OR TG_OP <> 'DELETE' AND NEW.from_day <= billing.today()
    AND billing.used_since(NEW.account, NEW.from_day) THEN
    RAISE EXCEPTION 'a plan of days that have begun and are used is never changed' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $function$;

CREATE OR REPLACE FUNCTION billing.refuse_begun_price()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  IF TG_OP <> 'INSERT' AND OLD.from_day <= billing.today() OR TG_OP <> 'DELETE' AND NEW.from_day <= billing.today()
    AND NOT EXISTS (SELECT FROM billing.price_lists WHERE id = NEW.list AND xmin = pg_current_xact_id()::xid) THEN
    RAISE EXCEPTION 'a price of a day that has begun is never changed' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $function$;

CREATE OR REPLACE FUNCTION billing.refuse_closed()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  RAISE EXCEPTION 'the window of % is closed', OLD.day USING ERRCODE = 'restrict_violation';
END $function$;

CREATE OR REPLACE FUNCTION billing.refuse_held_plan()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  IF EXISTS (SELECT FROM billing.subscriptions
    WHERE plan IN (to_jsonb(OLD) ->> TG_ARGV[0], to_jsonb(NEW) ->> TG_ARGV[0]) AND from_day <= billing.today()) THEN
    RAISE EXCEPTION 'a plan that an account has is never changed' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $function$;

CREATE OR REPLACE FUNCTION billing.refuse_late()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE
  late date;
BEGIN
  SELECT day INTO late FROM billing.windows
  WHERE closed_at IS NOT NULL AND day IN (SELECT "window" FROM changed) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the window of % is closed', late USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NULL;
END $function$;

CREATE OR REPLACE FUNCTION billing.refuse_wrong_total()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
DECLARE
  wrong text;
BEGIN
  SELECT i.id INTO wrong FROM billing.invoices i
  WHERE i.id = CASE TG_TABLE_NAME WHEN 'invoices' THEN to_jsonb(NEW) ->> 'id' ELSE to_jsonb(NEW) ->> 'invoice' END
    AND i.total <> (SELECT coalesce(sum(l.amount), 0) FROM billing.invoice_lines_kept l WHERE l.invoice = i.id);
  IF FOUND THEN
    RAISE EXCEPTION 'the total of invoice % is not the sum of its lines', wrong USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NULL;
END $function$;

CREATE OR REPLACE FUNCTION billing.roll_up()
 RETURNS void
 LANGUAGE plpgsql
AS $function$
DECLARE
  first_id bigint;
  last_id bigint;
BEGIN
  INSERT INTO billing.settled DEFAULT VALUES ON CONFLICT DO NOTHING;
  SELECT entry INTO first_id FROM billing.settled;
  SELECT max(id) INTO last_id FROM billing.ledger;
  IF last_id IS NULL OR last_id <= first_id THEN
    RETURN;
  END IF;
  INSERT INTO billing.rollups AS r ("window", day, account, template, meter, quantity, amount, currency)
  SELECT "window", day, account, coalesce(template, ''), meter, sum(quantity), sum(amount), currency
  FROM billing.ledger WHERE id > first_id AND id <= last_id
  GROUP BY "window", day, account, coalesce(template, ''), meter, currency
  ON CONFLICT (account, day, meter, template, "window", currency) DO UPDATE
    SET quantity = r.quantity + excluded.quantity, amount = r.amount + excluded.amount;
  UPDATE billing.settled SET entry = last_id;
END $function$;

CREATE OR REPLACE FUNCTION billing.rounded(amount numeric, currency text)
 RETURNS numeric
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN round(amount, CASE WHEN (currency = ANY (ARRAY['BIF'::text, 'CLP'::text, 'DJF'::text, 'GNF'::text, 'ISK'::text, 'JPY'::text, 'KMF'::text, 'KRW'::text, 'PYG'::text, 'RWF'::text, 'UGX'::text, 'UYI'::text, 'VND'::text, 'VUV'::text, 'XAF'::text, 'XOF'::text, 'XPF'::text])) THEN 0 WHEN (currency = ANY (ARRAY['BHD'::text, 'IQD'::text, 'JOD'::text, 'KWD'::text, 'LYD'::text, 'OMR'::text, 'TND'::text])) THEN 3 WHEN (currency = ANY (ARRAY['CLF'::text, 'UYW'::text])) THEN 4 ELSE 2 END);

CREATE OR REPLACE FUNCTION billing.set_plan(of_id text, of_list text, of_minimum numeric, of_cap numeric, given jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
AS $function$
DECLARE
  priced billing.price_lists%ROWTYPE;
  wrong record;
BEGIN
  FOR wrong IN SELECT key FROM jsonb_object_keys(given) AS k(key) WHERE key NOT IN (SELECT meter FROM billing.meters) LOOP
    RETURN jsonb_build_object('kind', 'unknown-meter', 'meter', wrong.key);
  END LOOP;
  SELECT * INTO priced FROM billing.price_lists WHERE id = of_list;
  IF NOT FOUND THEN
    RETURN jsonb_build_object('kind', 'no-list');
  END IF;
  INSERT INTO billing.plans (id, list, minimum, cap) VALUES (of_id, of_list, of_minimum, of_cap) ON CONFLICT DO NOTHING;
  IF FOUND THEN
    INSERT INTO billing.plan_included (plan, meter, quantity) SELECT of_id, key, value::numeric FROM jsonb_each_text(given);
    RETURN jsonb_build_object('kind', 'set');
  END IF;
  PERFORM FROM billing.plans WHERE id = of_id FOR UPDATE;
  IF EXISTS (
    SELECT FROM billing.plans WHERE id = of_id AND list = of_list AND minimum IS NOT DISTINCT FROM of_minimum
      AND cap IS NOT DISTINCT FROM of_cap
      AND (SELECT coalesce(jsonb_object_agg(meter, quantity), '{}') FROM billing.plan_included WHERE plan = of_id)
        = (SELECT coalesce(jsonb_object_agg(key, value::numeric), '{}') FROM jsonb_each_text(given))
  ) THEN
    RETURN jsonb_build_object('kind', 'set');
  ELSIF EXISTS (SELECT FROM billing.subscriptions WHERE plan = of_id AND from_day <= billing.today()) THEN
    RETURN jsonb_build_object('kind', 'taken');
  END IF;
  -- Who will have it: as `subscribe` has it.
  FOR wrong IN
    SELECT a.id, a.credit_usd FROM billing.subscriptions s JOIN accounts a ON a.id = s.account
    WHERE s.plan = of_id AND (priced.account <> a.id OR a.credit_usd IS NOT NULL AND priced.currency <> 'USD') ORDER BY a.id
  LOOP
    RETURN jsonb_build_object('kind', 'unfit', 'account', wrong.id);
  END LOOP;
  UPDATE billing.plans SET list = of_list, minimum = of_minimum, cap = of_cap WHERE id = of_id;
  DELETE FROM billing.plan_included WHERE plan = of_id;
  INSERT INTO billing.plan_included (plan, meter, quantity) SELECT of_id, key, value::numeric FROM jsonb_each_text(given);
  RETURN jsonb_build_object('kind', 'set');
END $function$;

CREATE OR REPLACE FUNCTION billing.set_prices(of_list text, of_currency text, of_account text, of_day date, given jsonb, today date)
 RETURNS jsonb
 LANGUAGE plpgsql
AS $function$
DECLARE
  known billing.price_lists%ROWTYPE;
  wrong record;
BEGIN
  today := greatest(today, billing.today());
  FOR wrong IN SELECT key FROM jsonb_object_keys(given) AS k(key) WHERE key NOT IN (SELECT meter FROM billing.meters) LOOP
    RETURN jsonb_build_object('kind', 'unknown-meter', 'meter', wrong.key);
  END LOOP;
  IF of_account IS NOT NULL AND NOT EXISTS (SELECT FROM accounts WHERE id = of_account) THEN
    RETURN jsonb_build_object('kind', 'no-account');
  END IF;
  INSERT INTO billing.price_lists (id, currency, account)
  VALUES (of_list, coalesce(of_currency, 'USD'), of_account) ON CONFLICT DO NOTHING RETURNING * INTO known;
  IF FOUND THEN
    of_day := coalesce(of_day, '1970-01-01');
  ELSE
    SELECT * INTO known FROM billing.price_lists WHERE id = of_list FOR UPDATE;
    of_day := coalesce(of_day, today + 1);
    IF of_currency <> known.currency THEN
      RETURN jsonb_build_object('kind', 'currency', 'currency', known.currency);
    ELSIF of_account IS NOT NULL AND of_account IS DISTINCT FROM known.account THEN
      RETURN jsonb_build_object('kind', 'another-account', 'account', known.account);
    ELSIF of_day <= today THEN
      RETURN jsonb_build_object('kind', 'begun', 'day', of_day, 'first', today + 1);
    END IF;
  END IF;
  INSERT INTO billing.prices (list, meter, from_day, price)
  SELECT of_list, key, of_day, value::numeric FROM jsonb_each_text(given)
  ON CONFLICT (list, meter, from_day) DO UPDATE SET price = excluded.price;
  RETURN jsonb_build_object('kind', 'set');
END $function$;

CREATE OR REPLACE FUNCTION billing.settle(now_at timestamp with time zone, after_id bigint, most integer)
 RETURNS jsonb
 LANGUAGE plpgsql
 SET jit TO 'off'
AS $function$
DECLARE
  low_id bigint;
  start_id bigint;
  open_day date;
  piece record;
  month record;
  is_more boolean := false;
  until_at timestamptz;
  closed integer := 0;
  issued integer := 0;
  high_id bigint;
  young_id bigint;
BEGIN
  PERFORM billing.lock_books();
  until_at := clock_timestamp() + interval '3 seconds';
  now_at := least(now_at, billing.latest());
  INSERT INTO billing.settled DEFAULT VALUES ON CONFLICT DO NOTHING;
  SELECT "interval" INTO low_id FROM billing.settled;
  start_id := greatest(low_id, after_id);
  open_day := billing.open_window(now_at);
  SELECT * INTO piece FROM billing.charge(open_day, start_id, most);
  PERFORM billing.roll_up();
  high_id := CASE WHEN piece.charged < most THEN (SELECT max(id) FROM billing.intervals) ELSE piece.last_id END;
  young_id := (SELECT id FROM billing.intervals
    WHERE id > low_id AND id <= high_id AND recorded_at > now() - interval '1 hour' ORDER BY id LIMIT 1);
  high_id := least(high_id, young_id - 1);
  UPDATE billing.settled SET "interval" = high_id WHERE high_id > "interval";
  WHILE piece.charged < most AND now_at >= (open_day + 1)::timestamp AT TIME ZONE 'UTC' + interval '10 minutes' LOOP
    IF extract(day FROM open_day + 1) = 1 THEN
      SELECT * INTO month FROM billing.issue(date_trunc('month', open_day)::date, now_at);
      issued := issued + month.issued;
      is_more := month.more;
      EXIT WHEN is_more;
    END IF;
    UPDATE billing.windows SET closed_at = now_at WHERE day = open_day;
    open_day := open_day + 1;
    closed := closed + 1;
    INSERT INTO billing.windows (day) VALUES (open_day);
    is_more := clock_timestamp() > until_at;
    EXIT WHEN is_more;
  END LOOP;
  RETURN jsonb_build_object('charged', piece.charged, 'closed', closed, 'issued', issued, 'after', CASE
    WHEN piece.charged >= most THEN piece.last_id WHEN is_more THEN greatest(start_id, piece.last_id) END);
END $function$;

CREATE OR REPLACE FUNCTION billing.split(from_ms bigint, to_ms bigint)
 RETURNS TABLE(day date, from_at timestamp with time zone, to_at timestamp with time zone)
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE ROWS 2
AS $function$
  SELECT DATE '1970-01-01' + d::integer, billing.instant(greatest(from_ms, d * 86400000)),
    billing.instant(least(to_ms, (d + 1) * 86400000))
  FROM generate_series(from_ms / 86400000, (to_ms - 1) / 86400000) AS d WHERE from_ms < to_ms
$function$;

CREATE OR REPLACE FUNCTION billing.stored_meter(kind text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE kind WHEN 'snapshot'::text THEN 'snapshot_mib_s'::text WHEN 'volume'::text THEN 'volume_mib_s'::text WHEN 'image'::text THEN 'hibernated_mib_s'::text WHEN 'template'::text THEN 'template_mib_s'::text WHEN 'ready'::text THEN 'ready_memory_mib_ms'::text WHEN 'build'::text THEN 'build_s'::text ELSE NULL::text END;

CREATE OR REPLACE FUNCTION billing.stored_subject(account text, kind text, id text)
 RETURNS text
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE kind WHEN 'image'::text THEN id ELSE ((((kind || '/'::text) || account) || '/'::text) || id) END;

CREATE OR REPLACE FUNCTION billing.stored_units(kind text, size_bytes bigint)
 RETURNS bigint
 LANGUAGE sql
 IMMUTABLE PARALLEL SAFE
RETURN CASE kind WHEN 'build'::text THEN (1)::bigint ELSE ((size_bytes + 1048575) / 1048576) END;

CREATE OR REPLACE FUNCTION billing.subscribe(of_account text, of_plan text, of_day date, today date)
 RETURNS jsonb
 LANGUAGE plpgsql
AS $function$
DECLARE
  owner accounts%ROWTYPE;
  priced billing.price_lists%ROWTYPE;
BEGIN
  today := greatest(today, billing.today());
  SELECT * INTO owner FROM accounts WHERE id = of_account FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN jsonb_build_object('kind', 'no-account');
  END IF;
  SELECT l.* INTO priced FROM billing.price_lists l JOIN billing.plans p ON p.list = l.id WHERE p.id = of_plan FOR SHARE OF p;
  IF NOT FOUND THEN
    RETURN jsonb_build_object('kind', 'no-plan');
  ELSIF priced.account <> of_account THEN
    RETURN jsonb_build_object('kind', 'another-account', 'list', priced.id);
  ELSIF owner.credit_usd IS NOT NULL AND priced.currency <> 'USD' THEN
    RETURN jsonb_build_object('kind', 'currency', 'list', priced.id, 'currency', priced.currency);
  END IF;
  of_day := coalesce(of_day, CASE WHEN billing.used_since(of_account, today) THEN today + 1 ELSE today END);
  IF of_day <= today AND billing.used_since(of_account, of_day) THEN
    RETURN jsonb_build_object('kind', 'begun', 'day', of_day, 'first', today + 1);
  END IF;
  INSERT INTO billing.subscriptions AS s (account, from_day, plan) VALUES (of_account, of_day, of_plan)
  ON CONFLICT (account, from_day) DO UPDATE SET plan = excluded.plan WHERE s.from_day > today;
  RETURN CASE WHEN FOUND THEN jsonb_build_object('kind', 'set') ELSE jsonb_build_object('kind', 'taken', 'day', of_day) END;
END $function$;

CREATE OR REPLACE FUNCTION billing.terms(of_account text, on_day date)
 RETURNS TABLE(plan text, list text, currency text)
 LANGUAGE sql
 STABLE
AS $function$
  WITH held AS (
    SELECT s.plan FROM billing.subscriptions s WHERE s.account = of_account AND s.from_day <= on_day
    ORDER BY s.from_day DESC LIMIT 1
  )
  SELECT p.id, l.id, l.currency::text
  FROM billing.price_lists l LEFT JOIN billing.plans p ON p.id = (SELECT held.plan FROM held)
  WHERE l.id = coalesce(p.list, 'default')
$function$;

CREATE OR REPLACE FUNCTION billing.today()
 RETURNS date
 LANGUAGE sql
 STABLE
RETURN ((now() AT TIME ZONE 'UTC'::text))::date;

CREATE OR REPLACE FUNCTION billing.used_since(of_account text, day date)
 RETURNS boolean
 LANGUAGE sql
 STABLE
AS $function$
  SELECT EXISTS (SELECT FROM billing.intervals WHERE account = of_account AND lower(during) >= day::timestamp AT TIME ZONE 'UTC')
    OR EXISTS (SELECT FROM sandboxes WHERE account = of_account AND open_since_ms IS NOT NULL)
    OR EXISTS (SELECT FROM stored_now WHERE account = of_account AND since_ms IS NOT NULL)
$function$;

CREATE OR REPLACE FUNCTION public.warren_admit(of_account text, bookings jsonb, of_key text, of_request_hash text, of_node text, rules jsonb)
 RETURNS jsonb
 LANGUAGE plpgsql
AS $function$
DECLARE
  owner accounts%ROWTYPE;
  known idempotency_keys%ROWTYPE;
  now_at timestamptz := bookings -> 0 ->> 'at';
  ids text[] := ARRAY(SELECT id FROM jsonb_to_recordset(bookings) AS b(id text));
  credit_left numeric;
  over record;
BEGIN
  SELECT * INTO owner FROM accounts WHERE id = of_account FOR NO KEY UPDATE;
  IF NOT FOUND THEN
    RETURN jsonb_build_object('kind', 'no-account');
  END IF;
  IF of_key IS NOT NULL THEN
    SELECT * INTO known FROM idempotency_keys WHERE account = of_account AND key = of_key;
    IF FOUND AND known.request_hash <> of_request_hash THEN
      RETURN jsonb_build_object('kind', 'conflict');
    ELSIF FOUND THEN
      RETURN jsonb_build_object('kind', 'replayed', 'sandbox', known.sandbox);
    END IF;
  END IF;
  IF owner.suspended THEN
    RETURN jsonb_build_object('kind', 'suspended');
  END IF;
  IF owner.credit_usd IS NOT NULL THEN
    credit_left := owner.credit_usd - billing.open_cost(of_account, floor(extract(epoch FROM now_at) * 1000)::bigint);
    IF credit_left <= 0 THEN
      RETURN jsonb_build_object('kind', 'no-credit', 'creditUsd', trim_scale(round(credit_left, 12))::text);
    END IF;
  END IF;
  -- A sandbox of this booking may run already, as it is restored meanwhile: its vCPUs and memory are asked for, not used.
  FOR over IN
    WITH asked AS (
      SELECT count(*) FILTER (WHERE NOT kept) AS sandboxes, sum(cpu) AS vcpus, sum(memory_mib) AS memory_mib
      FROM jsonb_to_recordset(bookings) AS b(id text, cpu bigint, memory_mib bigint),
        LATERAL (SELECT EXISTS (SELECT FROM sandboxes
          WHERE id = b.id AND account = of_account AND booked AND ended_at IS NULL)) AS has(kept)
    ), used AS (
      SELECT count(*) FILTER (WHERE booked OR id <> ALL (ids)) AS sandboxes,
        coalesce(sum(cpu) FILTER (WHERE state <> 'hibernated' AND id <> ALL (ids)), 0) AS vcpus,
        coalesce(sum(memory_mib) FILTER (WHERE state <> 'hibernated' AND id <> ALL (ids)), 0) AS memory_mib
      FROM sandboxes
      WHERE account = of_account AND ended_at IS NULL
        AND (booked OR created_at <= now_at - make_interval(secs => (rules ->> 'unbooked_ms')::double precision / 1000))
    )
    SELECT q.quota, q.most, q.used, q.asked
    FROM asked, used, LATERAL (VALUES
      ('sandboxes', owner.quota_sandboxes, used.sandboxes, asked.sandboxes),
      ('vcpus', owner.quota_vcpus, used.vcpus, asked.vcpus),
      ('memoryMb', owner.quota_memory_mib, used.memory_mib, asked.memory_mib)
    ) AS q(quota, most, used, asked)
    WHERE q.asked > 0 AND q.used + q.asked > q.most
  LOOP
    RETURN jsonb_build_object('kind', 'over-quota', 'quota', over.quota, 'limit', over.most, 'used', over.used, 'asked', over.asked);
  END LOOP;
  INSERT INTO sandboxes (id, account, template, cpu, memory_mib, state, node, created_at, booked)
  SELECT id, of_account, template, cpu, memory_mib, 'creating', of_node, "at", true
  FROM jsonb_to_recordset(bookings) AS b(id text, template text, cpu integer, memory_mib integer, "at" timestamptz)
  ON CONFLICT (id) DO UPDATE SET booked = true WHERE sandboxes.account = excluded.account AND NOT sandboxes.booked;
  IF of_key IS NOT NULL AND jsonb_array_length(bookings) > 0 THEN
    INSERT INTO idempotency_keys (account, key, request_hash, sandbox, "at")
    VALUES (of_account, of_key, of_request_hash, bookings -> 0 ->> 'id', (bookings -> 0 ->> 'at')::timestamptz);
  END IF;
  RETURN jsonb_build_object('kind', 'booked');
END $function$;

CREATE OR REPLACE FUNCTION public.warren_keys_changed()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
  PERFORM pg_notify('warren_keys', '');
  RETURN NULL;
END $function$;

CREATE OR REPLACE FUNCTION public.warren_record(given jsonb, of_node text)
 RETURNS bigint
 LANGUAGE plpgsql
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
  ids text[];
  numbers integer[];
  runs text[];
  stretches billing.stretch[];
  refused bigint;
BEGIN
  PERFORM FROM accounts
  WHERE id IN (SELECT account FROM jsonb_to_recordset(given) AS m(account text))
  ORDER BY id FOR NO KEY UPDATE;

  INSERT INTO sandboxes (id, account, template, cpu, memory_mib, state, node, created_at)
  SELECT DISTINCT ON (m.sandbox) m.sandbox, m.account, m.template, m.cpu, m.memory_mib, 'creating', of_node, m.at
  FROM jsonb_to_recordset(given)
    AS m(sandbox text, account text, template text, cpu integer, memory_mib integer, sequence integer, "at" timestamptz)
  WHERE (SELECT true FROM accounts WHERE id = m.account)
  ORDER BY m.sandbox, m.sequence
  ON CONFLICT (id) DO NOTHING;

  PERFORM FROM sandboxes
  WHERE id = ANY (ARRAY(SELECT DISTINCT sandbox FROM jsonb_to_recordset(given) AS m(sandbox text)))
  ORDER BY id FOR NO KEY UPDATE;

  WITH taken AS (
    INSERT INTO moves (sandbox, sequence, account, template, cpu, memory_mib, from_state, to_state, event, reason,
      network_out_bytes, network_in_bytes, network_connections, cpu_used_ms, monotonic_ms, "at")
    SELECT m.sandbox, m.sequence, m.account, m.template, m.cpu, m.memory_mib, m.from_state, m.to_state, m.event, m.reason,
      m.network_out_bytes, m.network_in_bytes, m.network_connections, m.cpu_used_ms, m.monotonic_ms, m.at
    FROM jsonb_to_recordset(given) AS m(sandbox text, sequence integer, account text, template text, cpu integer,
      memory_mib integer, from_state text, to_state text, event text, reason text, network_out_bytes bigint,
      network_in_bytes bigint, network_connections integer, cpu_used_ms bigint, monotonic_ms double precision, "at" timestamptz)
    WHERE (SELECT account FROM sandboxes WHERE id = m.sandbox AND NOT forgotten) = m.account
    ON CONFLICT (sandbox, sequence) DO NOTHING
    RETURNING sandbox, sequence, CASE WHEN (coalesce(from_state, 'creating') IN ('running', 'paused')) <> (to_state IN ('running', 'paused'))
      THEN CASE WHEN to_state IN ('running', 'paused') THEN 'begins' ELSE 'ends' END END AS run
  )
  SELECT array_agg(sandbox), array_agg(sequence), array_agg(run) INTO ids, numbers, runs FROM taken;

  WITH bounds AS (
    SELECT sandbox, sequence AS ends FROM unnest(ids, numbers) AS t(sandbox, sequence)
    UNION
    SELECT sandbox, sequence + 1 FROM unnest(ids, numbers) AS t(sandbox, sequence)
  ), parts AS (
    SELECT begun.account, bounds.sandbox, begun.template, c.meter, c.units, floor(begun.monotonic_ms)::bigint AS from_ms,
      floor(ended.monotonic_ms)::bigint AS to_ms, 0 AS micros
    FROM bounds,
      LATERAL (SELECT monotonic_ms FROM moves
        WHERE sandbox = bounds.sandbox AND sequence = bounds.ends OFFSET 0) AS ended,
      LATERAL (SELECT account, template, monotonic_ms, cpu, memory_mib, to_state FROM moves
        WHERE sandbox = bounds.sandbox AND sequence = bounds.ends - 1 OFFSET 0) AS begun,
      LATERAL billing.charged(begun.to_state, begun.cpu, begun.memory_mib) AS c
    UNION ALL
    SELECT m.account, m.sandbox, m.template, c.meter, c.units, floor(m.monotonic_ms)::bigint, NULL, m.sequence % 1000
    FROM unnest(ids, numbers) AS t(sandbox, sequence),
      LATERAL (SELECT * FROM moves WHERE moves.sandbox = t.sandbox AND moves.sequence = t.sequence OFFSET 0) AS m
      LEFT JOIN (
        SELECT e.sandbox, e.sequence, s.open_egress_bytes, s.open_cpu_used_ms
        FROM (SELECT sandbox, min(sequence) AS sequence FROM unnest(ids, numbers, runs) AS r(sandbox, sequence, run)
          WHERE run = 'ends' GROUP BY sandbox) AS e,
          LATERAL (SELECT * FROM sandboxes WHERE id = e.sandbox OFFSET 0) AS s
        WHERE NOT EXISTS (SELECT FROM moves WHERE moves.sandbox = e.sandbox AND moves.sequence > e.sequence
          AND moves.sequence <= s.last_sequence AND moves.to_state = 'running')
      ) AS told ON told.sandbox = m.sandbox AND told.sequence = m.sequence,
      LATERAL (VALUES ('egress_bytes', coalesce(m.network_out_bytes, told.open_egress_bytes)),
        ('cpu_used_ms', coalesce(m.cpu_used_ms, told.open_cpu_used_ms)),
        ('creates', CASE WHEN m.to_state = 'running' AND coalesce(m.from_state, 'creating') = 'creating' THEN 1 END)
      ) AS c(meter, units)
    WHERE c.units > 0
  )
  SELECT array_agg(ROW(parts.*)::billing.stretch) INTO stretches FROM parts;
  PERFORM billing.write(stretches);

  WITH now AS (
    SELECT last.*
    FROM (SELECT DISTINCT sandbox FROM unnest(ids) AS t(sandbox)) AS moved, LATERAL (
      SELECT sandbox, sequence, to_state AS state, reason, cpu, memory_mib, floor(monotonic_ms)::bigint AS at_ms, "at"
      FROM moves WHERE moves.sandbox = moved.sandbox ORDER BY sequence DESC LIMIT 1
    ) AS last
  )
  UPDATE sandboxes SET state = now.state, reason = now.reason, last_sequence = now.sequence,
    ended_at = CASE WHEN now.state IN ('deleted', 'failed') THEN coalesce(sandboxes.ended_at, now.at) END,
    seen_ms = greatest(sandboxes.seen_ms, now.at_ms),
    open_since_ms = (SELECT now.at_ms WHERE EXISTS (SELECT FROM billing.charged(now.state, now.cpu, now.memory_mib)))
  FROM now WHERE sandboxes.id = now.sandbox AND sandboxes.last_sequence < now.sequence;
  UPDATE sandboxes SET open_cpu_used_ms = 0, open_egress_bytes = 0
  WHERE id = ANY (ARRAY(SELECT DISTINCT sandbox FROM unnest(ids, runs) AS r(sandbox, run) WHERE run IS NOT NULL))
    AND (open_cpu_used_ms > 0 OR open_egress_bytes > 0);

  SELECT count(*) INTO refused
  FROM jsonb_to_recordset(given) AS m(sandbox text, account text, sequence integer)
  WHERE (SELECT account FROM moves WHERE moves.sandbox = m.sandbox AND moves.sequence = m.sequence)
    IS DISTINCT FROM m.account;
  RETURN refused;
END $function$;

CREATE OR REPLACE FUNCTION public.warren_record_stored(given jsonb, of_node text)
 RETURNS void
 LANGUAGE plpgsql
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
  stretches billing.stretch[];
BEGIN
  PERFORM FROM accounts
  WHERE id IN (SELECT account FROM jsonb_to_recordset(given) AS g(account text))
  ORDER BY id FOR NO KEY UPDATE;

  WITH told AS (
    SELECT DISTINCT ON (account, kind, id, "at", monotonic_ms) g.*
    FROM ROWS FROM (jsonb_to_recordset(given) AS (account text, kind text, id text, size_bytes bigint,
      monotonic_ms double precision, "at" timestamptz)) WITH ORDINALITY
      AS g(account, kind, id, size_bytes, monotonic_ms, "at", place)
    WHERE (SELECT true FROM accounts WHERE accounts.id = g.account)
    ORDER BY account, kind, id, "at", monotonic_ms, place
  ), logged AS (
    INSERT INTO stored (account, kind, id, size_bytes, monotonic_ms, "at", node)
    SELECT account, kind, id, size_bytes, monotonic_ms, "at", of_node FROM told ON CONFLICT DO NOTHING
    RETURNING account, kind, id, "at", monotonic_ms
  ), fresh AS (
    SELECT told.*, row_number() OVER (PARTITION BY account, kind, id ORDER BY place DESC) = 1 AS is_last,
      max(floor(told.monotonic_ms)::bigint) OVER (PARTITION BY account, kind, id ORDER BY place) AS at_ms
    FROM told JOIN logged USING (account, kind, id, "at", monotonic_ms)
  ), timeline AS (
    SELECT f.account, f.kind, f.id, f.size_bytes, greatest(f.at_ms, n.since_ms) AS at_ms, f.place
    FROM fresh f LEFT JOIN stored_now n ON n.account = f.account AND n.kind = f.kind AND n.id = f.id
    UNION ALL
    SELECT n.account, n.kind, n.id, n.size_bytes, n.since_ms, 0
    FROM stored_now n WHERE n.since_ms IS NOT NULL AND (n.account, n.kind, n.id) IN (SELECT account, kind, id FROM fresh)
  ), steps AS (
    SELECT *, lead(at_ms) OVER (PARTITION BY account, kind, id ORDER BY place) AS until_ms FROM timeline
  ), kept AS (
    INSERT INTO stored_now AS n (account, kind, id, size_bytes, "at", monotonic_ms, node, since_ms)
    SELECT account, kind, id, size_bytes, "at", monotonic_ms, of_node, CASE WHEN size_bytes > 0 THEN at_ms END
    FROM fresh WHERE is_last
    ON CONFLICT (account, kind, id) DO UPDATE SET size_bytes = excluded.size_bytes, "at" = excluded."at",
      monotonic_ms = excluded.monotonic_ms, node = excluded.node, since_ms = greatest(excluded.since_ms, n.since_ms)
        + CASE WHEN excluded.size_bytes = 0 THEN NULL ELSE 0 END
  )
  SELECT array_agg(ROW(account, billing.stored_subject(account, kind, id),
    CASE kind WHEN 'image' THEN (SELECT template FROM sandboxes WHERE sandboxes.id = steps.id) WHEN 'template' THEN id END,
    billing.stored_meter(kind), billing.stored_units(kind, size_bytes), at_ms, until_ms, 0)::billing.stretch)
  INTO stretches FROM steps WHERE size_bytes > 0 AND at_ms < until_ms;
  PERFORM billing.write(stretches);
END $function$;

CREATE OR REPLACE FUNCTION billing.write(given billing.stretch[])
 RETURNS bigint
 LANGUAGE plpgsql
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
  rows_written bigint;
BEGIN
  WITH written AS (
    INSERT INTO billing.intervals (account, subject, template, meter, units, during)
    SELECT g.account, g.subject, g.template, g.meter, g.units, tstzrange(part.from_at, part.to_at)
    FROM unnest(given) AS g, LATERAL billing.split(g.from_ms, g.to_ms) AS part
    WHERE g.units > 0 AND g.to_ms IS NOT NULL
    UNION ALL
    SELECT g.account, g.subject, g.template, g.meter, g.units, tstzrange(at, at, '[]')
    FROM unnest(given) AS g, LATERAL (SELECT to_timestamp((g.from_ms * 1000 + g.micros)::double precision / 1000000)) AS i(at)
    WHERE g.units > 0 AND g.to_ms IS NULL
    ON CONFLICT DO NOTHING
    RETURNING account, meter, quantity, (lower(during) AT TIME ZONE 'UTC')::date AS day
  ), used AS (
    SELECT account, meter, day, sum(quantity) AS quantity FROM written GROUP BY account, meter, day
  ), costs AS (
    SELECT used.account, sum(used.quantity * r.factor * r.price) AS usd
    FROM used JOIN accounts ON accounts.id = used.account AND accounts.credit_usd IS NOT NULL,
      LATERAL (SELECT factor, price FROM billing.rates WHERE account = used.account AND meter = used.meter
        AND from_day <= used.day AND (until_day IS NULL OR used.day < until_day) AND currency = 'USD' OFFSET 0) AS r
    GROUP BY used.account
  ), taken AS (
    UPDATE accounts SET credit_usd = credit_usd - costs.usd FROM costs WHERE accounts.id = costs.account AND costs.usd > 0
  )
  SELECT count(*) INTO rows_written FROM written;
  RETURN rows_written;
END $function$;

CREATE TRIGGER accounts_changed AFTER DELETE OR UPDATE OF name, suspended, quota_sandboxes, quota_vcpus, quota_memory_mib, quota_storage_mib, quota_requests_per_second ON public.accounts FOR EACH STATEMENT EXECUTE FUNCTION warren_keys_changed();
CREATE TRIGGER api_keys_changed AFTER INSERT OR DELETE OR UPDATE OF scopes, expires_at, revoked_at, account ON public.api_keys FOR EACH STATEMENT EXECUTE FUNCTION warren_keys_changed();
CREATE TRIGGER intervals_stay BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.intervals FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
CREATE TRIGGER invoice_lines_stay BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.invoice_lines_kept FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
CREATE CONSTRAINT TRIGGER invoice_lines_total AFTER INSERT ON billing.invoice_lines_kept DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing.refuse_wrong_total();
CREATE TRIGGER invoices_stay BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.invoices FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
CREATE CONSTRAINT TRIGGER invoices_total AFTER INSERT ON billing.invoices DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing.refuse_wrong_total();
CREATE TRIGGER ledger_in_open AFTER INSERT ON billing.ledger REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_late();
CREATE TRIGGER ledger_stays BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.ledger FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
CREATE TRIGGER meters_stay BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.meters FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
CREATE TRIGGER plan_included_not_truncated BEFORE TRUNCATE ON billing.plan_included FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
CREATE TRIGGER plan_included_stays BEFORE INSERT OR DELETE OR UPDATE ON billing.plan_included FOR EACH ROW EXECUTE FUNCTION billing.refuse_held_plan('plan');
CREATE TRIGGER plans_not_truncated BEFORE TRUNCATE ON billing.plans FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
CREATE TRIGGER plans_stay BEFORE DELETE OR UPDATE ON billing.plans FOR EACH ROW EXECUTE FUNCTION billing.refuse_held_plan('id');
CREATE TRIGGER price_lists_stay BEFORE DELETE OR UPDATE OR TRUNCATE ON billing.price_lists FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
CREATE TRIGGER prices_not_truncated BEFORE TRUNCATE ON billing.prices FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
CREATE TRIGGER prices_stay BEFORE INSERT OR DELETE OR UPDATE ON billing.prices FOR EACH ROW EXECUTE FUNCTION billing.refuse_begun_price();
CREATE TRIGGER rollups_in_open AFTER INSERT ON billing.rollups REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_late();
CREATE TRIGGER rollups_not_truncated BEFORE TRUNCATE ON billing.rollups FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
CREATE TRIGGER rollups_of_open AFTER UPDATE ON billing.rollups REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_late();
CREATE TRIGGER rollups_out_of_open AFTER DELETE ON billing.rollups REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_late();
CREATE TRIGGER rollups_to_open AFTER UPDATE ON billing.rollups REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_late();
CREATE TRIGGER subscriptions_not_truncated BEFORE TRUNCATE ON billing.subscriptions FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
CREATE TRIGGER subscriptions_stay BEFORE INSERT OR DELETE OR UPDATE ON billing.subscriptions FOR EACH ROW EXECUTE FUNCTION billing.refuse_begun_plan();
CREATE TRIGGER windows_not_truncated BEFORE TRUNCATE ON billing.windows FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
CREATE TRIGGER windows_stay BEFORE DELETE OR UPDATE ON billing.windows FOR EACH ROW WHEN ((old.closed_at IS NOT NULL)) EXECUTE FUNCTION billing.refuse_closed();
