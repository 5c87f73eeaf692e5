-- Facts become money: every interval is charged once, entries are summed by day, days are closed, months become invoices. One
-- server at a time writes the ledger, under one lock: so the ids of entries commit in their order, and "all entries up to this
-- one" is something that can be said. Whoever takes that lock takes it before any account's.

-- The one rule of rounding: to the currency's smallest unit, halves away from zero. Once for each line of an invoice, nowhere
-- else. ISO 4217 gives most currencies 2 decimals; these have 0, 3 or 4.
CREATE FUNCTION billing.rounded(amount numeric, currency text) RETURNS numeric LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN round(amount, CASE
  WHEN currency IN ('BIF', 'CLP', 'DJF', 'GNF', 'ISK', 'JPY', 'KMF', 'KRW', 'PYG', 'RWF', 'UGX', 'UYI', 'VND', 'VUV', 'XAF',
    'XOF', 'XPF') THEN 0
  WHEN currency IN ('BHD', 'IQD', 'JOD', 'KWD', 'LYD', 'OMR', 'TND') THEN 3
  WHEN currency IN ('CLF', 'UYW') THEN 4
  ELSE 2
END);
--> statement-breakpoint
CREATE FUNCTION billing.lock_books() RETURNS void LANGUAGE sql AS $$ SELECT pg_advisory_xact_lock(7287036222) $$;
--> statement-breakpoint
-- The plan, the list and the currency of an account on a day (UTC), also of meters that have no price.
CREATE FUNCTION billing.terms(of_account text, on_day date)
RETURNS TABLE (plan text, list text, currency text) LANGUAGE sql STABLE AS $$
  WITH held AS (
    SELECT s.plan FROM billing.subscriptions s WHERE s.account = of_account AND s.from_day <= on_day
    ORDER BY s.from_day DESC LIMIT 1
  )
  SELECT p.id, l.id, l.currency::text
  FROM billing.price_lists l LEFT JOIN billing.plans p ON p.id = (SELECT held.plan FROM held)
  WHERE l.id = coalesce(p.list, 'default')
$$;
--> statement-breakpoint
-- The day whose window is open; the first one is begun here. A day's window stays open for ten minutes after it.
CREATE FUNCTION billing.open_window(now_at timestamptz) RETURNS date LANGUAGE plpgsql AS $$
DECLARE
  open_day date;
BEGIN
  SELECT max(day) INTO open_day FROM billing.windows WHERE closed_at IS NULL;
  IF open_day IS NULL THEN
    open_day := ((now_at - interval '10 minutes') AT TIME ZONE 'UTC')::date;
    INSERT INTO billing.windows (day) VALUES (open_day);
  END IF;
  RETURN open_day;
END $$;
--> statement-breakpoint
-- Adds what was booked since to the sums of its day. Every entry is in exactly one window, so sums of rollups are those of the ledger.
CREATE FUNCTION billing.roll_up() RETURNS void LANGUAGE plpgsql AS $$
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
END $$;
--> statement-breakpoint
-- Charges up to `most` intervals after `after_id` that have no charge, in the open window, by the prices of their own day; how
-- many, and the last of them. The list in force gives the currency of what has no price.
CREATE FUNCTION billing.charge(in_window date, after_id bigint, most integer, OUT charged integer, OUT last_id bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan AS $$
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
END $$;
--> statement-breakpoint
-- What a month (UTC) of an account comes to by the entries up to one. Usage: a line for each meter and price. Corrections: the same.
-- Included: the plan's amounts, used up in the order of days, after corrections. Minimum: what the month lacks of it. Cap: what
-- is above it. The plan of the month's last day decides. Each line is rounded once; what has no price has none.
CREATE FUNCTION billing.month_lines(of_account text, of_month date, of_currency text, up_to bigint)
RETURNS TABLE (kind text, meter text, describes text, quantity numeric, unit text, price numeric, amount numeric)
LANGUAGE sql STABLE AS $$
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
$$;
--> statement-breakpoint
-- The entries of an account that are on its invoice for a month (UTC) and on none before it, up to one: what has a price. `before`: up to which
-- entry their month was invoiced; 0 when it was not.
CREATE FUNCTION billing.invoiced(of_account text, of_month date, of_currency text, up_to bigint)
RETURNS TABLE (month date, kind text, amount numeric, before bigint) LANGUAGE sql STABLE AS $$
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
$$;
--> statement-breakpoint
-- The lines of an account's invoice for a month (UTC), of entries up to one: the month's own; for each month before that has more
-- entries than were invoiced, what it comes to now less what it came to then, with its own plan (late, or a correction where one
-- is among them); and of an account with prepaid credit what that has paid already, which was by prices alone.
CREATE FUNCTION billing.lines(of_account text, of_month date, of_currency text, up_to bigint)
RETURNS TABLE (line integer, kind text, meter text, describes text, quantity numeric, unit text, price numeric, amount numeric)
LANGUAGE sql STABLE AS $$
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
$$;
--> statement-breakpoint
-- What an invoice is addressed to, when nothing was said of that: the account's name.
CREATE FUNCTION billing.bill_to(of_account text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT coalesce(bill_to, jsonb_build_object('name', name, 'address', jsonb_build_array(), 'taxId', NULL))
  FROM accounts WHERE id = of_account
$$;
--> statement-breakpoint
-- Issues invoices of a month (UTC), of those that have none yet, for two seconds and one at least: how many, and whether there are more.
CREATE FUNCTION billing.issue(of_month date, now_at timestamptz, OUT issued integer, OUT more boolean) LANGUAGE plpgsql AS $$
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
END $$;
--> statement-breakpoint
-- An invoice comes to the sum of its lines, and no line comes to it later.
CREATE FUNCTION billing.refuse_wrong_total() RETURNS trigger LANGUAGE plpgsql AS $$
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
END $$;
--> statement-breakpoint
CREATE CONSTRAINT TRIGGER invoices_total AFTER INSERT ON billing.invoices DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION billing.refuse_wrong_total();
--> statement-breakpoint
CREATE CONSTRAINT TRIGGER invoice_lines_total AFTER INSERT ON billing.invoice_lines_kept DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION billing.refuse_wrong_total();
--> statement-breakpoint
-- A piece of settlement, after `billing.cut`: charges, rolls up; and when nothing is left to charge, closes days that are over and issues the
-- invoices of their months before their last day is closed. Any number of servers may ask for it, again and again: each thing is
-- done once, and a few seconds' work a time. Returns what it did, and `after`: where the next piece goes on; null when there is none.
-- Intervals commit out of the order of their ids, so each first piece looks again from the watermark on, which only passes
-- what was recorded an hour ago. One statement of a server takes 12 seconds at most.
-- Not compiled, whoever asks for it: that took ten times as long as what it was for.
CREATE FUNCTION billing.settle(now_at timestamptz, after_id bigint, most integer) RETURNS jsonb LANGUAGE plpgsql SET jit = off AS $$
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
END $$;
--> statement-breakpoint
-- Takes an entry back, and books another in its place when there is a quantity. Never twice: what was put in its place is an
-- entry that can be corrected itself.
CREATE FUNCTION billing.correct(of_entry bigint, new_quantity bigint, why text, now_at timestamptz) RETURNS jsonb LANGUAGE plpgsql AS $$
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
END $$;
--> statement-breakpoint
-- Sums by account, meter and day have few groups, which nobody could know of an expression: with these numbers they are added up by
-- several processes in memory, not sorted on disk (10 million intervals: 9.4 s without, 4.9 s with, on the same busy machine).
CREATE STATISTICS billing.intervals_days ON account, meter, ((lower(during) AT TIME ZONE 'UTC')::date) FROM billing.intervals;
--> statement-breakpoint
-- A day of all accounts is one stretch of a table that is written in the order of time: 1/1000 of a b-tree's size.
CREATE INDEX intervals_when ON billing.intervals USING brin (lower(during));
--> statement-breakpoint
-- What finance people ask with plain SQL. Days and months are of UTC. Quantities are exact, in the meter's unit and in the price's;
-- amounts are exact, before included amounts, minimum, cap and credit; corrections are in them, on the day of what they correct.
-- Sums first, names after: a month of a thousand accounts is read in one pass.
CREATE VIEW billing.usage_by_day AS
SELECT s.account, a.name AS account_name, s.day, s.meter, s.quantity, trim_scale(s.quantity * m.factor) AS units, m.unit,
  trim_scale(s.amount) AS amount, s.currency::text AS currency
FROM (
  SELECT account, day, meter, currency, sum(quantity) AS quantity, sum(amount) AS amount
  FROM billing.rollups GROUP BY account, day, meter, currency
) AS s JOIN billing.meters m ON m.meter = s.meter JOIN accounts a ON a.id = s.account;
--> statement-breakpoint
CREATE VIEW billing.usage_by_template AS
SELECT s.account, a.name AS account_name, nullif(s.template, '') AS template, s.day, s.meter, s.quantity,
  trim_scale(s.quantity * m.factor) AS units, m.unit, trim_scale(s.amount) AS amount, s.currency::text AS currency
FROM (
  SELECT account, template, day, meter, currency, sum(quantity) AS quantity, sum(amount) AS amount
  FROM billing.rollups GROUP BY account, template, day, meter, currency
) AS s JOIN billing.meters m ON m.meter = s.meter JOIN accounts a ON a.id = s.account;
--> statement-breakpoint
CREATE VIEW billing.usage_by_sandbox AS
SELECT l.account, a.name AS account_name, i.subject AS sandbox, l.template, l.day, l.meter, sum(l.quantity) AS quantity,
  trim_scale(sum(l.quantity) * m.factor) AS units, m.unit, trim_scale(sum(l.amount)) AS amount, l.currency::text AS currency
FROM billing.ledger l JOIN billing.intervals i ON i.id = l.interval JOIN billing.meters m ON m.meter = l.meter
  JOIN accounts a ON a.id = l.account
GROUP BY l.account, a.name, i.subject, l.template, l.day, l.meter, m.factor, m.unit, l.currency;
--> statement-breakpoint
CREATE VIEW billing.usage_by_label AS
SELECT l.account, a.name AS account_name, label.key AS label, label.value, l.day, l.meter, sum(l.quantity) AS quantity,
  trim_scale(sum(l.quantity) * m.factor) AS units, m.unit, trim_scale(sum(l.amount)) AS amount, l.currency::text AS currency
FROM billing.ledger l JOIN billing.intervals i ON i.id = l.interval JOIN billing.meters m ON m.meter = l.meter
  JOIN accounts a ON a.id = l.account
  JOIN sandboxes s ON s.id = i.subject AND s.account = l.account, LATERAL jsonb_each_text(s.labels) AS label
GROUP BY l.account, a.name, label.key, label.value, l.day, l.meter, m.factor, m.unit, l.currency;
--> statement-breakpoint
CREATE VIEW billing.invoice_lines AS
SELECT i.id AS invoice, i.account, i.bill_to ->> 'name' AS bill_to, i.month, i.issued_at, i.plan, l.line, l.kind, l.meter, l.describes,
  l.quantity AS units, m.unit, l.price, l.amount, i.currency::text AS currency, i.total AS invoice_total
FROM billing.invoices i JOIN billing.invoice_lines_kept l ON l.invoice = i.id LEFT JOIN billing.meters m ON m.meter = l.meter;
--> statement-breakpoint
COMMENT ON VIEW billing.usage_by_day IS 'Use by account and day, from the rollups: what dashboards read';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_day.account IS 'Id of the account';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_day.account_name IS 'The account''s name as it is now';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_day.day IS 'Day (UTC) of the use itself, also when it was booked later';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_day.meter IS 'What was measured, with its unit in its name: see src/meter/meters.ts or GET /v1/pricing';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_day.quantity IS 'How much, in the meter''s own unit: a whole number, corrections included';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_day.units IS 'The same in the unit that a price is for, exact';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_day.unit IS 'What a price is for, as vCPU-second';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_day.amount IS 'What that costs by the prices of its day, exact and not rounded: before included amounts, minimum, cap and credit';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_day.currency IS 'ISO 4217; amounts of two currencies are never in one row';
--> statement-breakpoint
COMMENT ON VIEW billing.usage_by_template IS 'Use by account, template and day, from the rollups';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_template.account IS 'Id of the account';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_template.account_name IS 'The account''s name as it is now';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_template.template IS 'Template of the sandboxes; null for what has none, as volumes';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_template.day IS 'Day (UTC) of the use itself, also when it was booked later';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_template.meter IS 'What was measured, with its unit in its name: see src/meter/meters.ts or GET /v1/pricing';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_template.quantity IS 'How much, in the meter''s own unit: a whole number, corrections included';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_template.units IS 'The same in the unit that a price is for, exact';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_template.unit IS 'What a price is for, as vCPU-second';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_template.amount IS 'What that costs by the prices of its day, exact and not rounded: before included amounts, minimum, cap and credit';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_template.currency IS 'ISO 4217; amounts of two currencies are never in one row';
--> statement-breakpoint
COMMENT ON VIEW billing.usage_by_sandbox IS 'Use by sandbox and day, from the ledger: ask for one account, or for some days';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_sandbox.account IS 'Id of the account';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_sandbox.account_name IS 'The account''s name as it is now';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_sandbox.sandbox IS 'A sandbox''s id, or kind/account/name of what else is charged';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_sandbox.template IS 'Template of the sandboxes; null for what has none, as volumes';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_sandbox.day IS 'Day (UTC) of the use itself, also when it was booked later';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_sandbox.meter IS 'What was measured, with its unit in its name: see src/meter/meters.ts or GET /v1/pricing';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_sandbox.quantity IS 'How much, in the meter''s own unit: a whole number, corrections included';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_sandbox.units IS 'The same in the unit that a price is for, exact';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_sandbox.unit IS 'What a price is for, as vCPU-second';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_sandbox.amount IS 'What that costs by the prices of its day, exact and not rounded: before included amounts, minimum, cap and credit';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_sandbox.currency IS 'ISO 4217; amounts of two currencies are never in one row';
--> statement-breakpoint
COMMENT ON VIEW billing.usage_by_label IS 'Use by label (metadata of sandboxes) and day, from the ledger: ask for one account, or for some days';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_label.account IS 'Id of the account';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_label.account_name IS 'The account''s name as it is now';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_label.label IS 'A key of the sandbox''s metadata';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_label.value IS 'Its value. A sandbox with several keys is in the sums of each: add up over one key only';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_label.day IS 'Day (UTC) of the use itself, also when it was booked later';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_label.meter IS 'What was measured, with its unit in its name: see src/meter/meters.ts or GET /v1/pricing';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_label.quantity IS 'How much, in the meter''s own unit: a whole number, corrections included';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_label.units IS 'The same in the unit that a price is for, exact';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_label.unit IS 'What a price is for, as vCPU-second';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_label.amount IS 'What that costs by the prices of its day, exact and not rounded: before included amounts, minimum, cap and credit';
--> statement-breakpoint
COMMENT ON COLUMN billing.usage_by_label.currency IS 'ISO 4217; amounts of two currencies are never in one row';
--> statement-breakpoint
COMMENT ON VIEW billing.invoice_lines IS 'Every line of every invoice that was issued';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.invoice IS 'Number of the invoice';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.account IS 'Id of the account';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.bill_to IS 'Whom it is addressed to, as it was then';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.month IS 'First day of its month (UTC)';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.issued_at IS 'When it was issued; it has not changed since';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.plan IS 'The plan of the month''s last day; null: none';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.line IS 'Place on the invoice';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.kind IS 'usage, included (negative), correction, minimum, cap (negative), late (of a month that was invoiced already) or credit (what prepaid credit has paid)';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.meter IS 'Null for minimum and cap';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.describes IS 'What the line says';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.units IS 'How much, in the unit of its price, exact';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.unit IS 'What the price is for';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.price IS 'For one unit';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.amount IS 'Rounded to the currency''s smallest unit by billing.rounded: halves away from zero';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.currency IS 'ISO 4217';
--> statement-breakpoint
COMMENT ON COLUMN billing.invoice_lines.invoice_total IS 'Sum of the amounts of all its lines, exactly';
--> statement-breakpoint
-- For BI: it reads these views and nothing else. Roles are of the whole server, which has it already when another of its databases
-- is a Warren's. Who may not make roles goes on without.
DO $$ BEGIN
  BEGIN
    CREATE ROLE warren_reports NOLOGIN;
  EXCEPTION
    WHEN duplicate_object OR unique_violation THEN NULL;
    WHEN insufficient_privilege THEN RAISE NOTICE 'the role warren_reports is not made: %', SQLERRM;
  END;
  IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'warren_reports') THEN
    GRANT USAGE ON SCHEMA billing TO warren_reports;
    GRANT SELECT ON billing.usage_by_day, billing.usage_by_template, billing.usage_by_sandbox, billing.usage_by_label,
      billing.invoice_lines TO warren_reports;
  END IF;
END $$;
