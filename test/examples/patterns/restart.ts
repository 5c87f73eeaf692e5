/**
 * A pipeline that is restarted in its middle: a snapshot after the expensive stage. The next stage uses up what it reads, so
 * after its crash there is nothing to go on from in that sandbox; the snapshot is as it was, and only the second half runs
 * again. `bun test/examples/patterns/restart.ts`
 */
import { Sandbox } from "warren";

const PIPELINE = `
import sqlite3, sys
stage, rows_at_once = sys.argv[1], int(sys.argv[2])
with open("/work/stages.log", "a") as log:
    print(stage, rows_at_once, file=log)
db = sqlite3.connect("/work/rows.db")

if stage == "extract":  # stands for hours of fetching
    db.execute("CREATE TABLE todo (value INTEGER)")
    db.execute("CREATE TABLE done (value INTEGER)")
    db.executemany("INSERT INTO todo VALUES (?)", [(n,) for n in range(rows_at_once)])
    db.commit()

while stage == "transform":
    taken = db.execute("SELECT rowid, value FROM todo LIMIT ?", (rows_at_once,)).fetchall()
    if not taken:
        break
    db.executemany("DELETE FROM todo WHERE rowid = ?", [(rowid,) for rowid, _ in taken])
    db.commit()
    table = [bytes([1 + value % 255]) * 2**20 for _, value in taken]  # each row becomes 1 MiB
    db.executemany("INSERT INTO done VALUES (?)", [(len(row) // 2**20,) for row in table])
    db.commit()
`;

const LEFT = "sqlite3 /work/rows.db 'SELECT count(*) FROM todo' 'SELECT count(*) FROM done'";

export interface Attempt {
  readonly rowsAtOnce: number;
  /** How the transform ended. */
  readonly exitCode: number | null;
  readonly signal: string | null;
  /** Rows that wait, and rows that are done, after it. */
  readonly todo: number;
  readonly done: number;
  /** Every stage that ran in the life of this machine, its snapshot's included. */
  readonly stages: readonly string[];
}

async function transform(sb: Sandbox, rowsAtOnce: number): Promise<Attempt> {
  const { exitCode, signal } = await sb.exec(`exec python3 /work/pipeline.py transform ${rowsAtOnce}`, {
    timeoutSeconds: 60,
  });
  const [todo, done] = (await sb.exec(LEFT)).stdout.split("\n").map(Number);
  const stages = (await sb.files.readText("/work/stages.log")).trim().split("\n");
  return { rowsAtOnce, exitCode, signal, todo: todo ?? Number.NaN, done: done ?? Number.NaN, stages };
}

export async function run(): Promise<Attempt[]> {
  const attempts: Attempt[] = [];
  await using first = await Sandbox.create({ template: "code-interpreter" });
  await first.files.write("/work/pipeline.py", PIPELINE);
  await first.exec("python3 /work/pipeline.py extract 600");
  const checkpoint = await first.snapshot({ metadata: { stage: "extract" } });
  try {
    attempts.push(await transform(first, 600)); // more than its memory holds
    if (attempts[0]?.exitCode === 0) return attempts;
    await first.close();

    // By its id, so this could be another program, days later.
    await using second = await Sandbox.fromSnapshot(checkpoint.id);
    attempts.push(await transform(second, 100));
    await second.close(); // a snapshot is removed when nothing restored from it runs
    return attempts;
  } finally {
    await checkpoint.remove();
  }
}

if (import.meta.main) for (const attempt of await run()) console.log(JSON.stringify(attempt));
