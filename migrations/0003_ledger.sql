-- What the schema cannot say: the meters and the first prices, what the database refuses, and the functions that write
-- intervals. Whoever writes them first locks the accounts that they are of, in the order of their ids, and only then sandboxes,
-- in the order of theirs: nobody waits for who waits for them.

INSERT INTO billing.meters (meter, kind, unit, factor, describes) VALUES
  ('vcpu_ms', 'level', 'vCPU-second', 0.001, 'vCPUs of running sandboxes'),
  ('memory_mib_ms', 'level', 'GiB-second', 0.0000009765625,
    'Memory of running sandboxes, at its nominal size: pages that a fork shares are charged once per child'),
  ('paused_memory_mib_ms', 'level', 'GiB-second', 0.0000009765625, 'Memory of paused sandboxes, at its nominal size'),
  ('ready_memory_mib_ms', 'level', 'GiB-second', 0.0000009765625, 'Memory of clones that are kept ready'),
  ('hibernated_mib_s', 'level', 'GiB-second', 0.0009765625, 'Images of hibernated sandboxes'),
  ('snapshot_mib_s', 'level', 'GiB-second', 0.0009765625, 'Snapshots, by their own bytes'),
  ('volume_mib_s', 'level', 'GiB-second', 0.0009765625, 'Volumes, at the size asked for'),
  ('template_mib_s', 'level', 'GiB-second', 0.0009765625, 'Templates of the account''s own'),
  ('build_s', 'level', 'build-second', 1, 'Time in which templates were built'),
  ('egress_bytes', 'count', 'GiB', 0.000000000931322574615478515625, 'Bytes that left sandboxes for the network'),
  ('creates', 'count', 'create', 1, 'Sandboxes that ran'),
  ('cpu_used_ms', 'count', 'CPU-second', 0.001,
    'CPU time that sandboxes really used, as the host counts it: charged by active-CPU lists instead of vCPUs');
--> statement-breakpoint
-- As in src/meter/rates.json. What has no price costs nothing.
INSERT INTO billing.price_lists (id, currency) VALUES ('default', 'USD'), ('pandastack-hosted', 'USD');
--> statement-breakpoint
INSERT INTO billing.prices (list, meter, from_day, price) VALUES
  ('default', 'vcpu_ms', '1970-01-01', 0.000010),
  ('default', 'memory_mib_ms', '1970-01-01', 0.000004),
  ('default', 'paused_memory_mib_ms', '1970-01-01', 0.000004),
  ('pandastack-hosted', 'vcpu_ms', '1970-01-01', 0.000015),
  ('pandastack-hosted', 'memory_mib_ms', '1970-01-01', 0.0000045),
  ('pandastack-hosted', 'paused_memory_mib_ms', '1970-01-01', 0.0000045);
--> statement-breakpoint
-- No stretch of one meter of one thing twice. The key is a hash of 64 bits of the two: that two of a million which are open at
-- one time have the same is as likely as one in ten million. A level is whole milliseconds within a day of UTC, a count is an instant; what is
-- not in this list is no meter. Bounds that are missing make a comparison null, which is refused too.
ALTER TABLE billing.intervals
  ADD CONSTRAINT intervals_once EXCLUDE USING gist (key WITH =, during WITH &&),
  ADD CONSTRAINT intervals_shape CHECK ((CASE
    WHEN meter IN ('vcpu_ms', 'memory_mib_ms', 'paused_memory_mib_ms', 'ready_memory_mib_ms', 'hibernated_mib_s',
      'snapshot_mib_s', 'volume_mib_s', 'template_mib_s', 'build_s') THEN
      lower_inc(during) AND NOT upper_inc(during) AND lower(during) < upper(during)
      AND upper(during) AT TIME ZONE 'UTC' <= date_trunc('day', lower(during) AT TIME ZONE 'UTC') + interval '1 day'
      AND date_trunc('milliseconds', lower(during) AT TIME ZONE 'UTC') = lower(during) AT TIME ZONE 'UTC'
      AND date_trunc('milliseconds', upper(during) AT TIME ZONE 'UTC') = upper(during) AT TIME ZONE 'UTC'
    WHEN meter IN ('egress_bytes', 'creates', 'cpu_used_ms') THEN
      lower_inc(during) AND upper_inc(during) AND lower(during) = upper(during)
    END) IS TRUE);
--> statement-breakpoint
CREATE FUNCTION billing.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% of billing.% is refused: its rows are only ever added', lower(TG_OP), TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation';
END $$;
--> statement-breakpoint
CREATE TRIGGER intervals_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.intervals
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
--> statement-breakpoint
CREATE TRIGGER ledger_stays BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.ledger
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
--> statement-breakpoint
CREATE TRIGGER invoices_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.invoices
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
--> statement-breakpoint
CREATE TRIGGER invoice_lines_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.invoice_lines_kept
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
--> statement-breakpoint
CREATE TRIGGER meters_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.meters
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
--> statement-breakpoint
CREATE TRIGGER plans_not_truncated BEFORE TRUNCATE ON billing.plans FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
--> statement-breakpoint
CREATE TRIGGER plan_included_not_truncated BEFORE TRUNCATE ON billing.plan_included
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
--> statement-breakpoint
CREATE TRIGGER price_lists_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON billing.price_lists
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
--> statement-breakpoint
-- No sum comes back from what is no number: NaN, which is above all numbers here, and the infinite are refused.
ALTER TABLE billing.prices ADD CONSTRAINT prices_finite CHECK (price < 'Infinity');
--> statement-breakpoint
ALTER TABLE billing.plans ADD CONSTRAINT plans_finite CHECK (minimum < 'Infinity' AND cap < 'Infinity');
--> statement-breakpoint
ALTER TABLE billing.plan_included ADD CONSTRAINT plan_included_finite CHECK (quantity < 'Infinity');
--> statement-breakpoint
ALTER TABLE billing.meters ADD CONSTRAINT meters_finite CHECK (factor < 'Infinity');
--> statement-breakpoint
ALTER TABLE billing.ledger ADD CONSTRAINT ledger_finite
  CHECK (price < 'Infinity' AND '-Infinity' < amount AND amount < 'Infinity');
--> statement-breakpoint
CREATE FUNCTION billing.today() RETURNS date LANGUAGE sql STABLE RETURN (now() AT TIME ZONE 'UTC')::date;
--> statement-breakpoint
-- No server's clock is believed beyond the database's: what is charged, closed and issued stays so. Tests go through years by another one.
CREATE FUNCTION billing.latest() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT now() $$;
--> statement-breakpoint
-- What a plan is stays once an account has it. The trigger's argument is the column with the plan's name.
CREATE FUNCTION billing.refuse_held_plan() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (SELECT FROM billing.subscriptions
    WHERE plan IN (to_jsonb(OLD) ->> TG_ARGV[0], to_jsonb(NEW) ->> TG_ARGV[0]) AND from_day <= billing.today()) THEN
    RAISE EXCEPTION 'a plan that an account has is never changed' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
--> statement-breakpoint
CREATE TRIGGER plans_stay BEFORE UPDATE OR DELETE ON billing.plans
FOR EACH ROW EXECUTE FUNCTION billing.refuse_held_plan('id');
--> statement-breakpoint
CREATE TRIGGER plan_included_stays BEFORE INSERT OR UPDATE OR DELETE ON billing.plan_included
FOR EACH ROW EXECUTE FUNCTION billing.refuse_held_plan('plan');
--> statement-breakpoint
-- What a day costs is decided before it begins. A list that is made in the same transaction is nobody's yet.
CREATE FUNCTION billing.refuse_begun_price() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'INSERT' AND OLD.from_day <= billing.today() OR TG_OP <> 'DELETE' AND NEW.from_day <= billing.today()
    AND NOT EXISTS (SELECT FROM billing.price_lists WHERE id = NEW.list AND xmin = pg_current_xact_id()::xid) THEN
    RAISE EXCEPTION 'a price of a day that has begun is never changed' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
--> statement-breakpoint
CREATE TRIGGER prices_stay BEFORE INSERT OR UPDATE OR DELETE ON billing.prices
FOR EACH ROW EXECUTE FUNCTION billing.refuse_begun_price();
--> statement-breakpoint
CREATE TRIGGER prices_not_truncated BEFORE TRUNCATE ON billing.prices FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
--> statement-breakpoint
-- A plan begins on a day that has not begun, or before all that the account has used.
CREATE FUNCTION billing.refuse_begun_plan() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP <> 'INSERT' AND OLD.from_day <= billing.today() OR TG_OP <> 'DELETE' AND NEW.from_day <= billing.today()
    AND billing.used_since(NEW.account, NEW.from_day) THEN
    RAISE EXCEPTION 'a plan of days that have begun and are used is never changed' USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
--> statement-breakpoint
CREATE TRIGGER subscriptions_stay BEFORE INSERT OR UPDATE OR DELETE ON billing.subscriptions
FOR EACH ROW EXECUTE FUNCTION billing.refuse_begun_plan();
--> statement-breakpoint
CREATE TRIGGER subscriptions_not_truncated BEFORE TRUNCATE ON billing.subscriptions
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
--> statement-breakpoint
CREATE FUNCTION billing.refuse_closed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'the window of % is closed', OLD.day USING ERRCODE = 'restrict_violation';
END $$;
--> statement-breakpoint
CREATE TRIGGER windows_stay BEFORE UPDATE OR DELETE ON billing.windows
FOR EACH ROW WHEN (OLD.closed_at IS NOT NULL) EXECUTE FUNCTION billing.refuse_closed();
--> statement-breakpoint
CREATE TRIGGER windows_not_truncated BEFORE TRUNCATE ON billing.windows FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
--> statement-breakpoint
-- Nothing is booked in a window that is closed.
CREATE FUNCTION billing.refuse_late() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  late date;
BEGIN
  SELECT day INTO late FROM billing.windows
  WHERE closed_at IS NOT NULL AND day IN (SELECT "window" FROM changed) LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'the window of % is closed', late USING ERRCODE = 'restrict_violation';
  END IF;
  RETURN NULL;
END $$;
--> statement-breakpoint
CREATE TRIGGER ledger_in_open AFTER INSERT ON billing.ledger REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_late();
--> statement-breakpoint
CREATE TRIGGER rollups_in_open AFTER INSERT ON billing.rollups REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_late();
--> statement-breakpoint
CREATE TRIGGER rollups_to_open AFTER UPDATE ON billing.rollups REFERENCING NEW TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_late();
--> statement-breakpoint
CREATE TRIGGER rollups_of_open AFTER UPDATE ON billing.rollups REFERENCING OLD TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_late();
--> statement-breakpoint
CREATE TRIGGER rollups_out_of_open AFTER DELETE ON billing.rollups REFERENCING OLD TABLE AS changed
FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse_late();
--> statement-breakpoint
CREATE TRIGGER rollups_not_truncated BEFORE TRUNCATE ON billing.rollups FOR EACH STATEMENT EXECUTE FUNCTION billing.refuse();
--> statement-breakpoint
-- Which price holds for an account from a day (UTC) on, until another one does (exclusive; null: so far nothing else is known).
CREATE VIEW billing.rates AS
WITH held AS (
  SELECT id AS account, NULL::text AS plan, 'default' AS list, '-infinity'::date AS from_day,
    (SELECT min(s.from_day) FROM billing.subscriptions s WHERE s.account = accounts.id) AS until_day
  FROM accounts
  UNION ALL
  SELECT s.account, s.plan, p.list, s.from_day,
    (SELECT min(n.from_day) FROM billing.subscriptions n WHERE n.account = s.account AND n.from_day > s.from_day)
  FROM billing.subscriptions s JOIN billing.plans p ON p.id = s.plan
), priced AS (
  SELECT p.list, p.meter, p.price, p.from_day, l.currency, m.factor,
    (SELECT min(n.from_day) FROM billing.prices n
      WHERE n.list = p.list AND n.meter = p.meter AND n.from_day > p.from_day) AS until_day
  FROM billing.prices p JOIN billing.price_lists l ON l.id = p.list JOIN billing.meters m ON m.meter = p.meter
)
SELECT held.account, priced.meter, greatest(held.from_day, priced.from_day) AS from_day,
  least(held.until_day, priced.until_day) AS until_day, held.plan, held.list, priced.price, priced.factor, priced.currency
FROM held JOIN priced ON priced.list = held.list
  AND greatest(held.from_day, priced.from_day) < coalesce(least(held.until_day, priced.until_day), 'infinity');
--> statement-breakpoint
-- What a sandbox is charged for in a state; as `CHARGED` of src/meter/fold.ts.
CREATE FUNCTION billing.charged(state text, vcpus bigint, memory_mib bigint)
RETURNS TABLE (meter text, units bigint) LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT c.meter, c.units FROM (VALUES
    ('running', 'vcpu_ms', vcpus), ('running', 'memory_mib_ms', memory_mib), ('paused', 'paused_memory_mib_ms', memory_mib)
  ) AS c(state, meter, units) WHERE c.state = charged.state
$$;
--> statement-breakpoint
-- What is charged of things that are kept; as `STORED_METERS` of src/meter/storage.ts.
CREATE FUNCTION billing.stored_meter(kind text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN CASE kind
  WHEN 'snapshot' THEN 'snapshot_mib_s' WHEN 'volume' THEN 'volume_mib_s' WHEN 'image' THEN 'hibernated_mib_s'
  WHEN 'template' THEN 'template_mib_s' WHEN 'ready' THEN 'ready_memory_mib_ms' WHEN 'build' THEN 'build_s' END;
--> statement-breakpoint
-- Whole MiB; a build is one, whatever it takes.
CREATE FUNCTION billing.stored_units(kind text, size_bytes bigint) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE kind WHEN 'build' THEN 1 ELSE (size_bytes + 1048575) / 1048576 END;
--> statement-breakpoint
-- An image is its sandbox, whatever else is charged is named by what it is.
CREATE FUNCTION billing.stored_subject(account text, kind text, id text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE kind WHEN 'image' THEN id ELSE kind || '/' || account || '/' || id END;
--> statement-breakpoint
CREATE FUNCTION billing.instant(ms bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN to_timestamp(ms::double precision / 1000);
--> statement-breakpoint
-- The parts of a stretch that lie within one day of UTC each.
CREATE FUNCTION billing.split(from_ms bigint, to_ms bigint)
RETURNS TABLE (day date, from_at timestamptz, to_at timestamptz) LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 2 AS $$
  SELECT DATE '1970-01-01' + d::integer, billing.instant(greatest(from_ms, d * 86400000)),
    billing.instant(least(to_ms, (d + 1) * 86400000))
  FROM generate_series(from_ms / 86400000, (to_ms - 1) / 86400000) AS d WHERE from_ms < to_ms
$$;
--> statement-breakpoint
-- So much of something, milliseconds since the Unix epoch: from (inclusive) to (exclusive). A count has no end (`to_ms` null); its
-- `micros` keep two of one millisecond apart.
CREATE TYPE billing.stretch AS (
  account text, subject text, template text, meter text, units bigint, from_ms bigint, to_ms bigint, micros integer
);
--> statement-breakpoint
-- Writes stretches that are over, cut at midnights of UTC, and takes what they cost from credit. What is written already is
-- left as it is, and costs nothing again. The accounts are locked by the caller.
CREATE FUNCTION billing.write(given billing.stretch[]) RETURNS bigint LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
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
END $$;
--> statement-breakpoint
-- An account has used something on this day (UTC) or later, or has something that is charged.
CREATE FUNCTION billing.used_since(of_account text, day date) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT EXISTS (SELECT FROM billing.intervals WHERE account = of_account AND lower(during) >= day::timestamp AT TIME ZONE 'UTC')
    OR EXISTS (SELECT FROM sandboxes WHERE account = of_account AND open_since_ms IS NOT NULL)
    OR EXISTS (SELECT FROM stored_now WHERE account = of_account AND since_ms IS NOT NULL)
$$;
--> statement-breakpoint
-- All that is open: since when it is not in `intervals`, and when it was last seen. What is on disk stays there: its `seen` is
-- infinity. A clone that is kept ready and a build end with their server, and nobody sees when: they count once they are over.
CREATE VIEW billing.open_time AS
SELECT s.account, s.id AS subject, s.template, c.meter, c.units, billing.instant(s.open_since_ms) AS since,
  billing.instant(s.seen_ms) AS seen
FROM sandboxes s, LATERAL billing.charged(s.state, s.cpu, s.memory_mib) AS c
WHERE s.ended_at IS NULL AND s.open_since_ms IS NOT NULL
UNION ALL
SELECT n.account, billing.stored_subject(n.account, n.kind, n.id),
  CASE n.kind WHEN 'image' THEN (SELECT template FROM sandboxes WHERE sandboxes.id = n.id) WHEN 'template' THEN n.id END,
  billing.stored_meter(n.kind), billing.stored_units(n.kind, n.size_bytes), billing.instant(n.since_ms),
  CASE WHEN n.kind IN ('ready', 'build') THEN billing.instant(n.since_ms) ELSE 'infinity' END
FROM stored_now n WHERE n.since_ms IS NOT NULL;
--> statement-breakpoint
-- What is open costs up to now, in US dollars: as far as it was seen, whatever a wall clock says, and for a minute after that at most.
CREATE FUNCTION billing.open_cost(of_account text, now_ms bigint)
RETURNS numeric LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan AS $$
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
END $$;
--> statement-breakpoint
-- Writes what is open up to the last midnight of UTC that it is known to have lived through: by its proof of life, a minute
-- after, since moves from before that are written by then. What is kept on disk, up to that before `until`, or before the database's own
-- now, whichever is earlier: no server's clock charges for what has not been. How many stretches; 0: nothing is left to cut.
-- Some `most` days of stretches in one transaction, of few accounts: those wait for it, and it is over long before a statement is ended.
CREATE FUNCTION billing.cut(until timestamptz, most integer)
RETURNS bigint LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET jit = off AS $$
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
END $$;
--> statement-breakpoint
-- Books sandboxes, all or none, against quota and credit. `bookings`: [{id, cpu, memory_mib, template, at}, ...], one at
-- least. `rules`: {"unbooked_ms"}. Credit is what is left when all that is open is charged
-- up to now, by the account's own prices. Quota counts what is booked: of what has moved and is not, another booking is on its way, unless that should
-- have come `unbooked_ms` ago (it was lost, or nobody asks for this one, as it was not made by a server).
-- A sandbox that is booked already is a wake: it has its place, and asks only for vCPUs and memory.
CREATE OR REPLACE FUNCTION warren_admit(of_account text, bookings jsonb, of_key text, of_request_hash text, of_node text, rules jsonb)
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
END $$;
--> statement-breakpoint
DROP FUNCTION warren_record(jsonb, text, jsonb);
--> statement-breakpoint
-- Takes moves in any order, some of them again, and returns how many it could not take: of unknown accounts, of sandboxes that
-- are forgotten or another account's. A stretch of time is written when both moves that bound it are there, which is once: for
-- the later of the two to come. What is open is kept in the sandbox's row, and begins anew with each last move. What a run has
-- used by its last proof of life is written when it ends without a word of that: nobody saw it end.
-- Every row is looked up by its primary key, in a subquery of its own: joined as a set, tables would be read as a whole, since
-- nothing is known of how many rows are given.
CREATE FUNCTION warren_record(given jsonb, of_node text)
RETURNS bigint LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
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
END $$;
--> statement-breakpoint
-- What is kept, in the order that it is told in for each thing; what comes again counts once. A size holds until the next one: its
-- stretch is written when that comes. One that is said to begin earlier than what is written begins where that ends.
CREATE FUNCTION warren_record_stored(given jsonb, of_node text)
RETURNS void LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
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
END $$;
--> statement-breakpoint
-- Makes a price list, or sets its prices from a day on; those that it has from that day on are replaced, as the day has not begun.
-- `given`: meter → decimal text. `today` is the asker's; a day that has begun by either clock has. What is not done is told by its kind.
CREATE FUNCTION billing.set_prices(of_list text, of_currency text, of_account text, of_day date, given jsonb, today date)
RETURNS jsonb LANGUAGE plpgsql AS $$
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
END $$;
--> statement-breakpoint
-- Makes a plan, or makes it anew for those who will have it: one that an account has is never changed. `given`: meter → whole number.
CREATE FUNCTION billing.set_plan(of_id text, of_list text, of_minimum numeric, of_cap numeric, given jsonb)
RETURNS jsonb LANGUAGE plpgsql AS $$
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
END $$;
--> statement-breakpoint
-- Gives an account a plan: by default from today on when it has used nothing today, else from tomorrow on. Another that it would
-- have from that day on is replaced, if the day has not begun. `today` as in `set_prices`.
CREATE FUNCTION billing.subscribe(of_account text, of_plan text, of_day date, today date)
RETURNS jsonb LANGUAGE plpgsql AS $$
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
END $$;
--> statement-breakpoint
-- What was used before there were intervals, and was taken from credit then: each stretch whose end is known, and what is open.
WITH parts AS (
  SELECT begun.account, begun.sandbox, begun.template, c.meter, c.units, tstzrange(part.from_at, part.to_at) AS during
  FROM moves begun JOIN moves ended ON ended.sandbox = begun.sandbox AND ended.sequence = begun.sequence + 1,
    LATERAL billing.charged(begun.to_state, begun.cpu, begun.memory_mib) AS c,
    LATERAL billing.split(floor(begun.monotonic_ms)::bigint, floor(ended.monotonic_ms)::bigint) AS part
  UNION ALL
  SELECT m.account, m.sandbox, m.template, c.meter, c.units, tstzrange(i.at, i.at, '[]')
  FROM moves m, LATERAL (VALUES ('egress_bytes', m.network_out_bytes),
      ('creates', CASE WHEN m.to_state = 'running' AND coalesce(m.from_state, 'creating') = 'creating' THEN 1 END)
    ) AS c(meter, units),
    LATERAL (SELECT to_timestamp((floor(m.monotonic_ms) * 1000 + m.sequence % 1000) / 1000000)) AS i(at)
  WHERE c.units > 0
)
INSERT INTO billing.intervals (account, subject, template, meter, units, during)
SELECT account, sandbox, template, meter, units, during FROM parts ORDER BY lower(during) ON CONFLICT DO NOTHING;
--> statement-breakpoint
UPDATE sandboxes SET seen_ms = floor(last.monotonic_ms)::bigint,
  open_since_ms = (SELECT floor(last.monotonic_ms)::bigint
    WHERE EXISTS (SELECT FROM billing.charged(last.to_state, last.cpu, last.memory_mib)))
FROM moves last WHERE last.sandbox = sandboxes.id AND last.sequence = sandboxes.last_sequence;
--> statement-breakpoint
-- Of what is kept only from now on: when it was told of before says little of how long it was there.
UPDATE stored_now SET since_ms = floor(extract(epoch FROM now()) * 1000)::bigint WHERE size_bytes > 0;
--> statement-breakpoint
-- Their rows change with every proof of life: with room beside them, no index has to.
ALTER TABLE sandboxes SET (fillfactor = 70);
