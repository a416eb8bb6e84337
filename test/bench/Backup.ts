/**
 * An online backup by `greenroom backup`: its rate against that of a bare `pg_dump` of the same database, and how long sends wait
 * while it runs.
 */
import { execFile, execFileSync } from "node:child_process"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { promisify } from "node:util"
import { atLeast, atMost, type Benchmark, milliseconds, ofBaseline, times } from "./Benchmark.ts"
import { type DebianPostgres, startDebianPostgres } from "./DebianPostgres.ts"
import { runLoad } from "./LoadProcess.ts"
import type { PacedSendsInput } from "./load/pacedSends.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import { median, type Percentiles, timed } from "./Percentiles.ts"
import { startServer } from "./Server.ts"

const run = promisify(execFile)
const program = fileURLToPath(new URL("../../apps/gateway/src/admin/main.ts", import.meta.url))

/** 100 sends a second. */
const senders = 10
const interval = 100

/** The rate of the backup while sends are measured. */
const gentleRate = "20M"

/** Rows that are as large as events and compress as well: words, hashes and a signature. */
const rowsOf = (count: number): string => `
  INSERT INTO account_data (user_id, room_id, type, content)
  SELECT '@filler' || n % 1000 || ':bench.test', '', 'filler.' || n,
    '{"auth_events":["$' || md5(n || 'a') || '","$' || md5(n || 'b') || '","$' || md5(n || 'c') || '"],' ||
    '"content":{"body":"What number ' || n || ' says in this room is what people say to one another","msgtype":"m.text"},' ||
    '"depth":' || n || ',"hashes":{"sha256":"' || md5(n || 'd') || '"},"origin_server_ts":' || 1790000000000 + n * 977 ||
    ',"prev_events":["$' || md5(n || 'e') || '"],"room_id":"!' || md5((n % 500)::text) || ':bench.test",' ||
    '"sender":"@filler' || n % 1000 || ':bench.test","signatures":{"bench.test":{"ed25519:a_key":"' ||
    md5(n || 'f') || md5(n || 'g') || md5(n || 'h') || '"}},"type":"m.room.message"}'
  FROM generate_series(1, ${count}) AS n`

const measure = async (postgres: DebianPostgres, quick: boolean) => {
  await using server = await startServer({ environment: { GREENROOM_DATABASE_URL: postgres.url } })
  const psql = path.join(path.dirname(postgres.pgDump), "psql")
  const statement = rowsOf(quick ? 1_000 : 500_000)
  execFileSync(psql, [postgres.url, "-q", "-c", statement, "-c", "CHECKPOINT"])
  const size = execFileSync(psql, [postgres.url, "-At", "-c", "SELECT pg_database_size(current_database())"])
  const prepared = await runLoad<SendersInput, Senders>("senders", { url: server.url, senders })
  const fileOf = async (name: string) => {
    const file = path.join(server.dataDir, name)
    await fs.rm(file, { force: true })
    return file
  }
  const backup = async (...words: ReadonlyArray<string>) => {
    const place = ["--data-dir", server.dataDir, "--database-url", postgres.url, "--server-name", "bench.test"]
    await run(process.execPath, [program, "backup", await fileOf("bench.backup"), ...place, ...words])
  }
  const dump = async () => run(postgres.pgDump, ["-d", postgres.url, "-f", await fileOf("bench.sql")])
  const [dumps, backups]: [Array<number>, Array<number>] = [[], []]
  for (let round = 0; round < (quick ? 1 : 3); round++) {
    dumps.push(await timed(dump))
    backups.push(await timed(() => backup()))
  }
  const [quiet, during]: [Array<number>, Array<number>] = [[], []]
  const send = (seconds: number, name: string) =>
    runLoad<PacedSendsInput, Percentiles>("pacedSends", { url: server.url, ...prepared, seconds, interval, run: name })
  for (let round = 0; round < (quick ? 1 : 3); round++) {
    const seconds = quick ? 1 : 10
    quiet.push((await send(seconds, `quiet${round}`)).p99)
    let isOver = false
    const sending = send(seconds, `during${round}`).finally(() => {
      isOver = true
    })
    while (!isOver) await backup("--rate", gentleRate)
    during.push((await sending).p99)
  }
  return { megabytes: Number(size.toString()) / 1e6, dumps, backups, quiet, during }
}

export const backup: Benchmark = {
  name: "backup",
  measures: "an online backup; baseline: a bare pg_dump, and sends without a backup",
  run: async ({ quick }) => {
    await using postgres = await startDebianPostgres()
    if (postgres === undefined) throw new Error("The baseline is Debian's pg_dump: apt-get install postgresql")
    const { backups, dumps, during, megabytes, quiet } = await measure(postgres, quick)
    const ratio = median(backups.map((time, round) => dumps[round]! / time))
    const rate = (runs: ReadonlyArray<number>) => `${((megabytes / median(runs)) * 1_000).toFixed(0)} MB/s`
    const factor = median(during) / median(quiet)
    return [
      {
        what: `backup of ${megabytes.toFixed(0)} MB`,
        value: rate(backups),
        baseline: `${rate(dumps)}, pg_dump`,
        ratio: ofBaseline(ratio),
        target: atLeast(ratio, 0.5)
      },
      {
        what: `100 sends/s during a backup of ${gentleRate}B/s, p99`,
        value: milliseconds(median(during)),
        baseline: milliseconds(median(quiet)),
        ratio: times(factor),
        target: atMost(factor, 2, " times")
      }
    ]
  }
}
