import { createHash } from "node:crypto"
import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { zstdCompressSync } from "node:zlib"
import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { magic } from "../src/Backup.ts"
import { newestMigration } from "../src/Database.ts"
import { checkBackup } from "../src/Restore.ts"

const frame = (type: string, content: object) => {
  const payload = Buffer.from(JSON.stringify(content))
  const head = Buffer.alloc(5)
  head.write(type, 0, "latin1")
  head.writeUInt32BE(payload.length, 1)
  return Buffer.concat([head, payload])
}

const header = { server_name: "green.test", migration: newestMigration, created_ts: 1, tables: [], sequences: {} }

/** A backup of no rows. `checked` is what its checksum is of. */
const backupOf = ({ migration = newestMigration, checked = (bytes: Buffer) => bytes, after = [] as Array<Buffer> }) => {
  const first = frame("H", { ...header, migration })
  const sha256 = createHash("sha256").update(checked(first)).digest("hex")
  return Buffer.concat([
    Buffer.from(magic()),
    zstdCompressSync(Buffer.concat([first, frame("E", { sha256 }), ...after]))
  ])
}

const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "greenroom-restore-"))),
  (directory) => Effect.promise(() => rm(directory, { recursive: true, force: true }))
)

it.live("backups of newer database versions, with another checksum, or with more behind it, are refused", () =>
  Effect.gen(function* () {
    const file = join(yield* temporaryDirectory, "green.backup")
    const check = (backup: Buffer) =>
      Effect.andThen(
        Effect.promise(() => writeFile(file, backup)),
        Effect.match(checkBackup(file), {
          onFailure: ({ message }) => message,
          onSuccess: ({ migration }) => migration
        })
      )
    assert.strictEqual(yield* check(backupOf({})), newestMigration)
    assert.strictEqual(yield* check(backupOf({ migration: 1 })), 1)
    const newer = yield* check(backupOf({ migration: newestMigration + 1 }))
    assert.match(String(newer), /was made by a newer Greenroom .* Nothing was restored\.$/)
    for (const damaged of [
      backupOf({ checked: (bytes) => bytes.subarray(1) }),
      backupOf({ after: [frame("T", { name: "users", columns: [] })] })
    ]) {
      assert.match(String(yield* check(damaged)), /is damaged\. Nothing was restored\.$/)
    }
  }).pipe(Effect.scoped)
)
