/**
 * Price lists, plans and who has which; and whose credit is used up. What may be changed, the database's functions decide, in one
 * transaction; here they are told in words.
 */
import { sql } from "drizzle-orm";
import type { BillingStore } from "../../api/billing.ts";
import type { PlanInfo, PriceInfo, PriceList } from "../../contract/routes/api/billing.ts";
import { WarrenError } from "../../errors.ts";
import { METER_NAMES } from "../../meter/meters.ts";
import { PRICING_NOTES } from "../../meter/notes.ts";
import { asJson, type Database } from "../database.ts";

type Calls = Pick<BillingStore, "pricing" | "priceLists" | "setPrices" | "setPlan" | "subscribeTo" | "exhausted">;

const AMOUNT = /^\d{1,12}(\.\d{1,18})?$/;
const QUANTITY = /^[1-9]\d{0,17}$/;

const dayOf = (ms: number) => new Date(ms).toISOString().slice(0, 10);

export function priceCalls(db: Database): Calls {
  const lists = async (id: string | null): Promise<PriceList[]> => {
    const rows = await db.rows(sql`
      select l.id, l.currency, l.account, p.meter, m.unit, trim_scale(p.price)::text, p.from_day::text, m.describes
      from billing.price_lists l left join billing.prices p on p.list = l.id left join billing.meters m using (meter)
      where ${id}::text is null or l.id = ${id}
      order by l.id, p.meter, p.from_day`);
    const found = new Map<string, PriceList>();
    for (const [list, currency, account, meter, unit, price, fromDay, describes] of rows as string[][]) {
      const one = found.get(String(list)) ?? {
        ...{ id: String(list), currency: String(currency), account: account ?? null, prices: [] as PriceInfo[] },
      };
      found.set(one.id, one);
      // A list without any has one row of nulls.
      if (meter && unit && price && fromDay && describes) one.prices.push({ meter, unit, price, fromDay, describes });
    }
    return [...found.values()];
  };
  const decided = async (statement: ReturnType<typeof sql>): Promise<Verdict> =>
    JSON.parse(String(await db.value(statement))) as Verdict;
  return {
    async exhausted(nowMs) {
      const rows = await db.rows(sql`
        select a.id, (
          select jsonb_agg(s.id order by s.id)::text from sandboxes s
          where s.account = a.id and s.ended_at is null and s.state in ('running', 'paused')
        ) as live
        from accounts a
        where a.credit_usd is not null and a.on_empty = 'hibernate'
          and exists (select from sandboxes s where s.account = a.id and s.ended_at is null and s.state in ('running', 'paused'))
          and a.credit_usd <= billing.open_cost(a.id, ${Math.floor(nowMs)}::bigint)
        order by a.id`);
      return rows.map(([account, live]) => ({
        account: String(account),
        sandboxes: live === null ? [] : (JSON.parse(String(live)) as string[]),
      }));
    },
    async pricing(account, nowMs) {
      const today = dayOf(nowMs);
      const [held] = await db.rows(sql`
        select coalesce(s.list, 'default'), s.plan from accounts left join lateral (
          select p.list, p.id as plan from billing.subscriptions u join billing.plans p on p.id = u.plan
          where u.account = accounts.id and u.from_day <= ${today}::date order by u.from_day desc limit 1
        ) as s on true where accounts.id = ${account}`);
      if (held === undefined) throw missing("account", account);
      const [list] = await lists(String(held[0]));
      if (list === undefined) throw new Error(`the price list ${held[0]} is gone`);
      const inForce = list.prices.filter(
        ({ meter, fromDay }) =>
          !list.prices.some((p) => p.meter === meter && p.fromDay > fromDay && p.fromDay <= today),
      );
      const plan = held[1] === null ? null : await planOf(db, String(held[1]));
      return { list: list.id, currency: list.currency, prices: inForce, plan, notes: [...PRICING_NOTES] };
    },
    priceLists: () => lists(null),
    async setPrices({ list, currency, account, fromDay, prices }, nowMs) {
      for (const [meter, price] of Object.entries(prices)) checkAmount(`prices.${meter}`, price);
      const verdict = await decided(sql`
        select billing.set_prices(${list}, ${currency ?? null}, ${account ?? null}, ${fromDay ?? null}::date,
          ${asJson(prices)}::text::jsonb, ${dayOf(nowMs)}::date)::text`);
      refuse(verdict, { list, account: account ?? "", currency: currency ?? "" });
      const [made] = await lists(list);
      if (made === undefined) throw new Error(`the price list ${list} is gone`);
      return made;
    },
    async setPlan(plan) {
      const { id, list, minimum, cap, included } = plan;
      for (const [field, amount] of Object.entries({ minimum, cap })) if (amount !== null) checkAmount(field, amount);
      for (const [meter, quantity] of Object.entries(included)) checkQuantity(`included.${meter}`, quantity);
      if (minimum !== null && cap !== null && Number(minimum) > Number(cap)) {
        throw wrong("minimum", minimum, `no more than the cap, ${cap}`);
      }
      const verdict = await decided(sql`
        select billing.set_plan(${id}, ${list}, ${minimum}::numeric, ${cap}::numeric, ${asJson(included)}::text::jsonb)::text`);
      refuse(verdict, { list, plan: id });
      return planOf(db, id);
    },
    async subscribeTo(account, plan, fromDay, nowMs) {
      const verdict = await decided(sql`
        select billing.subscribe(${account}, ${plan}, ${fromDay ?? null}::date, ${dayOf(nowMs)}::date)::text`);
      refuse(verdict, { account, plan });
    },
  };
}

async function planOf(db: Database, id: string): Promise<PlanInfo> {
  const [row] = await db.rows(sql`
    select list, trim_scale(minimum)::text, trim_scale(cap)::text,
      (select coalesce(jsonb_object_agg(meter, quantity::text), '{}')::text from billing.plan_included where plan = plans.id)
    from billing.plans where id = ${id}`);
  if (row === undefined) throw missing("plan", id);
  const [list, minimum, cap, included] = row as [string, string | null, string | null, string];
  return { id, list, minimum, cap, included: JSON.parse(included) as Record<string, string> };
}

interface Verdict {
  readonly kind: string;
  readonly meter?: string;
  readonly day?: string;
  readonly first?: string;
  readonly currency?: string;
  readonly account?: string | null;
  readonly list?: string;
}

function missing(what: string, id: string): WarrenError {
  return new WarrenError("not_found", `there is no ${what} ${id}`, { details: { field: what, [what]: id } });
}

function wrong(field: string, got: string, allowed: string): WarrenError {
  const details = { field, got, allowed };
  return new WarrenError("invalid_request", `${field}: got ${JSON.stringify(got)}, allowed is ${allowed}`, { details });
}

function checkAmount(field: string, text: string): void {
  if (!AMOUNT.test(text))
    throw wrong(field, text, "an amount such as 0.000010: not negative, at most 12 digits and 18 after the point");
}

function checkQuantity(field: string, text: string): void {
  if (!QUANTITY.test(text))
    throw wrong(field, text, "a whole number from 1 on, of at most 18 digits, in the meter's unit");
}

/** @throws {WarrenError} what a verdict says, unless it is done */
function refuse(verdict: Verdict, asked: Readonly<Record<string, string>>): void {
  const { kind, meter = "", day = "", first = "", currency = "" } = verdict;
  const { list = verdict.list ?? "", account = "", plan = "" } = asked;
  switch (kind) {
    case "set":
      return;
    case "unknown-meter":
      throw wrong("meter", meter, METER_NAMES.join(", "));
    case "no-account":
      throw missing("account", account);
    case "no-list":
      throw missing("list", list);
    case "no-plan":
      throw missing("plan", plan);
    case "begun":
      throw wrong(
        "fromDay",
        day,
        `a day that has not begun, from ${first} on: what a day costs is decided before it begins`,
      );
    case "another-account":
      throw wrong("account", account, `whose list ${list} is: ${verdict.account ?? "everybody, or another account"}`);
    case "currency":
      if (plan === "") throw wrong("currency", asked["currency"] ?? "", `that of the list ${list}, ${currency}`);
      throw wrong("plan", plan, `one in USD, as this account is prepaid in USD: the list ${list} is in ${currency}`);
    case "unfit":
      throw wrong("list", list, `one that ${verdict.account} may have, which is to have the plan ${plan}`);
    case "taken": {
      const says =
        day === ""
          ? `there is another plan ${plan}, which an account has: choose another name`
          : `${account} has had a plan from ${day} on: what a day costs is decided before it begins`;
      throw new WarrenError("already_exists", says, { details: { ...asked, ...verdict } });
    }
    default:
      throw new Error(`the database's verdict ${kind} is not known`);
  }
}
