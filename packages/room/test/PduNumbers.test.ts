/**
 * Numbers in events. Before room version 6 they have the canonical form that Synapse writes, with integers of any size and fractions as
 * in Python. From version 6 they are integers of 53 bits.
 */
import * as fs from "node:fs"
import { assert, describe, it } from "@effect/vitest"
import { exactContent } from "@greenroom/protocol/Event"
import { parse } from "@greenroom/protocol/ExactJson"
import type { JsonObject } from "@greenroom/protocol/Json"
import { encode } from "@greenroom/room/CanonicalJson"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { decodeBase64, importVerifyKey, type VerifyKeys } from "@greenroom/room/Signing"
import { Result } from "effect"

interface Fixture {
  readonly verify_keys: { readonly [keyId: string]: string }
  readonly numbers: ReadonlyArray<{
    readonly text: string
    readonly canonical: string | null
    readonly loose: boolean
    readonly strict: boolean
  }>
  readonly events: ReadonlyArray<{ readonly room_version: string; readonly event_id: string; readonly pdu: string }>
}

const fixture: Fixture = JSON.parse(fs.readFileSync(new URL("fixtures/synapse/numbers.json", import.meta.url), "utf8"))

const keys: VerifyKeys = new Map(
  Object.entries(fixture.verify_keys).map(([id, key]) => [id, Result.getOrThrow(importVerifyKey(decodeBase64(key)!))])
)

describe("Numbers in events", () => {
  it("numbers have the canonical form that Synapse gives them, or none", () => {
    for (const { canonical, loose, strict, text } of fixture.numbers) {
      const value = parse(`[${text}]`)
      const inVersion5 = encode(value, "any")
      assert.strictEqual(Result.isSuccess(inVersion5), loose, text)
      if (Result.isSuccess(inVersion5)) assert.strictEqual(inVersion5.success, `[${canonical}]`)
      const inVersion6 = encode(value)
      assert.strictEqual(Result.isSuccess(inVersion6), strict, text)
      if (Result.isSuccess(inVersion6)) assert.strictEqual(inVersion6.success, `[${canonical}]`)
    }
  })

  for (const { event_id, pdu: text, room_version } of fixture.events) {
    const pdu = parse(text) as JsonObject
    it(`an event of version ${room_version} (${pdu.type}) that Synapse signed keeps its ID, hash and signature`, () => {
      const version = roomVersion(room_version)!
      const event = Result.getOrThrow(version.fromPdu(pdu))
      assert.strictEqual(event.event_id, event_id)
      // JSON is the form in the database and between nodes.
      const stored = JSON.parse(JSON.stringify(event)) as typeof event
      assert.deepStrictEqual(Result.getOrThrow(version.verify(stored, () => keys)), stored)
      const { unsigned: _, ...sent } = pdu
      const canonical = (value: JsonObject) => Result.getOrThrow(encode(value, "any"))
      assert.strictEqual(canonical(version.toPdu(stored)), canonical(sent))
      assert.strictEqual(canonical(exactContent(stored)), canonical(pdu.content as JsonObject))
      const redacted = version.redact(stored)
      assert.strictEqual(version.referenceHash(redacted), version.referenceHash(event))
      assert.isUndefined(JSON.stringify(redacted.content).match(/rawJSON/)?.[0])
    })
  }

  it("depth, origin_server_ts and similar numbers must be integers", () => {
    const version = roomVersion("5")!
    const pdu = parse(fixture.events.at(-1)!.pdu) as JsonObject
    for (const changes of [
      '{"depth":5.0}',
      '{"depth":9223372036854775808}',
      '{"origin_server_ts":1.0}',
      '{"content":1.0}'
    ]) {
      const read = version.fromPdu({ ...pdu, ...(parse(changes) as JsonObject) })
      assert.isTrue(Result.isFailure(read), changes)
    }
    const deep = Result.getOrThrow(
      version.fromPdu({ ...pdu, ...(parse('{"depth":9223372036854775807}') as JsonObject) })
    )
    assert.strictEqual(deep.depth, Number.MAX_SAFE_INTEGER)
    assert.include(JSON.stringify(version.toPdu(deep)), '"depth":9223372036854775807')
  })
})
