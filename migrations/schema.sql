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

create table meters (
  sandbox text not null,
  account text not null,
  template text not null,
  closed_vcpu_ms bigint not null,
  closed_memory_mib_ms bigint not null,
  egress_bytes bigint not null,
  open_since_ms bigint,
  open_since timestamp with time zone,
  open_vcpus integer,
  open_memory_mib integer,
  forgotten boolean not null default false,
  constraint meters_sums CHECK ((LEAST(closed_vcpu_ms, closed_memory_mib_ms, egress_bytes) >= 0)),
  constraint meters_account_accounts_id_fk FOREIGN KEY (account) REFERENCES accounts(id),
  constraint meters_pkey PRIMARY KEY (sandbox)
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

CREATE INDEX api_keys_account ON public.api_keys USING btree (account);
CREATE INDEX audit_log_account ON public.audit_log USING btree (account, at);
CREATE INDEX audit_log_at ON public.audit_log USING btree (at);
CREATE INDEX idempotency_keys_at ON public.idempotency_keys USING btree (at);
CREATE INDEX idempotency_keys_sandbox ON public.idempotency_keys USING btree (sandbox);
CREATE INDEX meters_account ON public.meters USING btree (account);
CREATE INDEX moves_account ON public.moves USING btree (account, at);
CREATE INDEX sandboxes_ended ON public.sandboxes USING btree (ended_at) WHERE (ended_at IS NOT NULL);
CREATE INDEX sandboxes_open ON public.sandboxes USING btree (account) WHERE (ended_at IS NULL);
CREATE INDEX sandboxes_open_node ON public.sandboxes USING btree (node) WHERE (ended_at IS NULL);
CREATE INDEX stored_at ON public.stored USING btree (at);
CREATE INDEX webhook_deliveries_due ON public.webhook_deliveries USING btree (next_at);
CREATE INDEX webhook_deliveries_webhook ON public.webhook_deliveries USING btree (webhook);
CREATE INDEX webhooks_account ON public.webhooks USING btree (account);

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
    SELECT owner.credit_usd - coalesce(sum(passed.ms * (
        runs.open_vcpus * (rules ->> 'vcpu_ms_usd')::numeric
        + runs.open_memory_mib * (rules ->> 'memory_mib_ms_usd')::numeric)), 0)
    INTO credit_left
    FROM sandboxes,
      LATERAL (SELECT open_since, open_vcpus, open_memory_mib FROM meters
        WHERE sandbox = sandboxes.id AND open_since IS NOT NULL OFFSET 0) AS runs,
      LATERAL (SELECT greatest(0, floor(extract(epoch FROM now_at - runs.open_since) * 1000))) AS passed(ms)
    WHERE account = of_account AND ended_at IS NULL;
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

CREATE OR REPLACE FUNCTION public.warren_record(given jsonb, of_node text, rules jsonb)
 RETURNS bigint
 LANGUAGE plpgsql
 SET plan_cache_mode TO 'force_generic_plan'
AS $function$
DECLARE
  ids text[];
  numbers integer[];
  sent bigint[];
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
    AND NOT coalesce((SELECT forgotten FROM meters WHERE meters.sandbox = m.sandbox), false)
  ORDER BY m.sandbox, m.sequence
  ON CONFLICT (id) DO NOTHING;

  WITH taken AS (
    INSERT INTO moves (sandbox, sequence, account, template, cpu, memory_mib, from_state, to_state, event, reason,
      network_out_bytes, network_in_bytes, network_connections, monotonic_ms, "at")
    SELECT m.sandbox, m.sequence, m.account, m.template, m.cpu, m.memory_mib, m.from_state, m.to_state, m.event, m.reason,
      m.network_out_bytes, m.network_in_bytes, m.network_connections, m.monotonic_ms, m.at
    FROM jsonb_to_recordset(given) AS m(sandbox text, sequence integer, account text, template text, cpu integer,
      memory_mib integer, from_state text, to_state text, event text, reason text, network_out_bytes bigint,
      network_in_bytes bigint, network_connections integer, monotonic_ms double precision, "at" timestamptz)
    WHERE (SELECT account FROM sandboxes WHERE id = m.sandbox) = m.account
      AND NOT coalesce((SELECT forgotten FROM meters WHERE meters.sandbox = m.sandbox), false)
    ON CONFLICT (sandbox, sequence) DO NOTHING
    RETURNING sandbox, sequence, coalesce(network_out_bytes, 0) AS out_bytes
  )
  SELECT array_agg(sandbox), array_agg(sequence), array_agg(out_bytes) INTO ids, numbers, sent FROM taken;

  WITH bounds AS (
    SELECT sandbox, sequence AS ends FROM unnest(ids, numbers) AS t(sandbox, sequence)
    UNION
    SELECT sandbox, sequence + 1 FROM unnest(ids, numbers) AS t(sandbox, sequence)
  ), parts AS (
    SELECT bounds.sandbox,
      CASE WHEN rules -> 'vcpu' ? begun.state THEN passed.ms * begun.cpu ELSE 0 END AS vcpu_ms,
      CASE WHEN rules -> 'memory' ? begun.state THEN passed.ms * begun.memory_mib ELSE 0 END AS memory_mib_ms,
      0::bigint AS egress_bytes
    FROM bounds,
      LATERAL (SELECT monotonic_ms FROM moves
        WHERE sandbox = bounds.sandbox AND sequence = bounds.ends OFFSET 0) AS ended,
      LATERAL (SELECT monotonic_ms, cpu, memory_mib, to_state AS state FROM moves
        WHERE sandbox = bounds.sandbox AND sequence = bounds.ends - 1 OFFSET 0) AS begun,
      LATERAL (SELECT greatest(0, floor(ended.monotonic_ms)::bigint - floor(begun.monotonic_ms)::bigint)) AS passed(ms)
    UNION ALL
    SELECT sandbox, 0, 0, out_bytes FROM unnest(ids, sent) AS t(sandbox, out_bytes)
  ), sums AS (
    SELECT sandbox, sum(vcpu_ms)::bigint AS vcpu_ms, sum(memory_mib_ms)::bigint AS memory_mib_ms,
      sum(egress_bytes)::bigint AS egress_bytes
    FROM parts GROUP BY sandbox
  ), now AS (
    SELECT sums.*, last.*, rules -> 'vcpu' ? last.state AS runs, rules -> 'memory' ? last.state AS resides
    FROM sums, LATERAL (
      SELECT account, template, sequence, to_state AS state, reason, cpu, memory_mib, monotonic_ms, "at"
      FROM moves WHERE moves.sandbox = sums.sandbox ORDER BY sequence DESC LIMIT 1
    ) AS last
  ), moved AS (
    UPDATE sandboxes SET state = now.state, reason = now.reason, last_sequence = now.sequence,
      ended_at = CASE WHEN rules -> 'ended' ? now.state THEN coalesce(sandboxes.ended_at, now.at) END
    FROM now WHERE sandboxes.id = now.sandbox
  ), metered AS (
    INSERT INTO meters AS m (sandbox, account, template, closed_vcpu_ms, closed_memory_mib_ms, egress_bytes,
      open_since_ms, open_since, open_vcpus, open_memory_mib)
    SELECT sandbox, account, template, vcpu_ms, memory_mib_ms, egress_bytes,
      CASE WHEN runs OR resides THEN floor(monotonic_ms)::bigint END, CASE WHEN runs OR resides THEN "at" END,
      CASE WHEN runs THEN cpu WHEN resides THEN 0 END, CASE WHEN resides THEN memory_mib WHEN runs THEN 0 END
    FROM now
    ON CONFLICT (sandbox) DO UPDATE SET
      closed_vcpu_ms = m.closed_vcpu_ms + excluded.closed_vcpu_ms,
      closed_memory_mib_ms = m.closed_memory_mib_ms + excluded.closed_memory_mib_ms,
      egress_bytes = m.egress_bytes + excluded.egress_bytes,
      open_since_ms = excluded.open_since_ms, open_since = excluded.open_since,
      open_vcpus = excluded.open_vcpus, open_memory_mib = excluded.open_memory_mib
  )
  UPDATE accounts SET credit_usd = credit_usd - costs.usd
  FROM (
    SELECT account, sum(vcpu_ms * (rules ->> 'vcpu_ms_usd')::numeric
      + memory_mib_ms * (rules ->> 'memory_mib_ms_usd')::numeric) AS usd
    FROM now GROUP BY account
  ) AS costs
  WHERE accounts.id = costs.account AND accounts.credit_usd IS NOT NULL AND costs.usd > 0;

  SELECT count(*) INTO refused
  FROM jsonb_to_recordset(given) AS m(sandbox text, account text, sequence integer)
  WHERE (SELECT account FROM moves WHERE moves.sandbox = m.sandbox AND moves.sequence = m.sequence)
    IS DISTINCT FROM m.account;
  RETURN refused;
END $function$;

CREATE TRIGGER accounts_changed AFTER DELETE OR UPDATE OF name, suspended, quota_sandboxes, quota_vcpus, quota_memory_mib, quota_storage_mib, quota_requests_per_second ON public.accounts FOR EACH STATEMENT EXECUTE FUNCTION warren_keys_changed();
CREATE TRIGGER api_keys_changed AFTER INSERT OR DELETE OR UPDATE OF scopes, expires_at, revoked_at, account ON public.api_keys FOR EACH STATEMENT EXECUTE FUNCTION warren_keys_changed();
