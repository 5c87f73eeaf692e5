-- What takes more than one statement and has to be one round trip and one transaction. Each function first locks the
-- accounts that it is about, in the order of their ids: whatever is counted of an account is counted by one at a time.

-- Books sandboxes, all or none, against quota and credit. `bookings`: [{id, cpu, memory_mib, template, at}, ...], one at
-- least. `rules`: {"vcpu_ms_usd", "memory_mib_ms_usd", "unbooked_ms"}. Credit is what is left when all that runs is charged
-- up to now. Quota counts what is booked: of what has moved and is not, another booking is on its way, unless that should
-- have come `unbooked_ms` ago (it was lost, or nobody asks for this one, as it was not made by a server).
-- A sandbox that is booked already is a wake: it has its place, and asks only for vCPUs and memory.
CREATE FUNCTION warren_admit(of_account text, bookings jsonb, of_key text, of_request_hash text, of_node text, rules jsonb)
RETURNS jsonb LANGUAGE plpgsql AS $$
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
END $$;
--> statement-breakpoint
-- Takes moves in any order, some of them again, and returns how many it could not take: of unknown accounts, of sandboxes that
-- are forgotten or another account's. A stretch of time counts when both moves that bound it are there, which is once: for
-- the later of the two to come. `rules`: {"vcpu": [states], "memory": [states], "ended": [states], "vcpu_ms_usd", "memory_mib_ms_usd"}.
-- Every row is looked up by its primary key, in a subquery of its own: joined as a set, tables would be read as a whole, since
-- nothing is known of how many rows are given.
CREATE FUNCTION warren_record(given jsonb, of_node text, rules jsonb)
RETURNS bigint LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
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
END $$;
--> statement-breakpoint
-- Servers remember keys and accounts for a while: they hear of every change, whoever makes it.
CREATE FUNCTION warren_keys_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('warren_keys', '');
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER api_keys_changed AFTER INSERT OR DELETE OR UPDATE OF scopes, expires_at, revoked_at, account ON api_keys
FOR EACH STATEMENT EXECUTE FUNCTION warren_keys_changed();
--> statement-breakpoint
-- Not of credit, which falls with every stretch that ends and is looked at when sandboxes are booked.
CREATE TRIGGER accounts_changed AFTER DELETE OR UPDATE OF name, suspended, quota_sandboxes, quota_vcpus, quota_memory_mib,
  quota_storage_mib, quota_requests_per_second ON accounts
FOR EACH STATEMENT EXECUTE FUNCTION warren_keys_changed();
