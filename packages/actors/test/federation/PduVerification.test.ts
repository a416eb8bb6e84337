import { assert, describe, it } from "@effect/vitest"
import type { RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { draftRoomVersion, isDraft } from "@greenroom/room/DraftRoomVersion"
import type { RoomVersion } from "@greenroom/room/RoomVersion"
import { roomVersion, roomVersions } from "@greenroom/room/RoomVersions"
import { generateSigningKey, type SigningKey, verifyKeyOf } from "@greenroom/room/Signing"
import { EventLog } from "@greenroom/store/EventLog"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer, Result } from "effect"
import * as FederationLayer from "../../src/federation/FederationLayer.ts"
import { PduVerification, type VerifiedPdu } from "../../src/federation/PduVerification.ts"
import { makeKeyObject } from "../../src/federation/ServerKeyObject.ts"
import { HomeServerConfig } from "../../src/runtime/HomeServerConfig.ts"
import { tlsServer } from "./support/TlsServer.ts"

const ourName = "us.test" as ServerName
const red = generateSigningKey("red.test" as ServerName, "ed25519:r")
const green = generateSigningKey("green.test" as ServerName, "ed25519:g")
const now = Date.now()

const pduOf = (key: SigningKey, text: string): JsonObject => {
  const sender = `@alice:${key.serverName}` as UserId
  const room_id = "!room:red.test" as RoomId
  const content = { msgtype: "m.text", body: text }
  const place = { prevEvents: [], state: () => undefined, now }
  return draftRoomVersion.toPdu(
    draftRoomVersion.build({ room_id, sender, type: "m.room.message", content }, place, key)
  )
}

/** A membership that red makes for a user of another server, who asked for it by this key. */
const joinFor = (key: SigningKey): JsonObject => {
  const sender = `@alice:${key.serverName}` as UserId
  const room_id = "!room:red.test" as RoomId
  const content = { target_host: "red.test" }
  const place = { prevEvents: [], state: () => undefined, now }
  const inviteJoin = draftRoomVersion.build({ room_id, sender, type: "m.room.invite_join", content }, place, key)
  return draftRoomVersion.toPdu(draftRoomVersion.build(draftRoomVersion.membershipFor(inviteJoin), place, red))
}

/** A server that publishes the key. */
const publish = (key: SigningKey) =>
  tlsServer(() => {
    const published = { keyId: key.keyId, publicKey: verifyKeyOf(key), expiredAt: undefined }
    return { body: JSON.stringify(makeKeyObject(key.serverName, key, [published], Date.now())) }
  })

/** Red and green can be asked for their keys, others cannot. */
const verifier = Effect.gen(function* () {
  const [onRed, onGreen] = [yield* publish(red), yield* publish(green)]
  const staticServers = {
    "red.test": `127.0.0.1:${onRed.port}`,
    "green.test": `127.0.0.1:${onGreen.port}`,
    "dead.test": "127.0.0.1:1"
  }
  const context = yield* Layer.build(
    FederationLayer.layer({ verifyCertificates: false, staticServers }).pipe(
      Layer.provide(Layer.merge(SigningKeys.layer(ourName), EventLog.layer)),
      Layer.provide(Layer.succeed(HomeServerConfig, { serverName: ourName, dataDir: "unused" })),
      Layer.provide(Layer.fresh(TestDatabase.layer))
    )
  )
  const { verifyPdus } = yield* Effect.provide(PduVerification, context)
  return {
    verify: (pdus: ReadonlyArray<unknown>) => verifyPdus(draftRoomVersion, pdus),
    verifyIn: (room: string, pdus: ReadonlyArray<unknown>) =>
      verifyPdus(draftRoomVersion, pdus, { roomId: room as RoomId }),
    verifyAs: (version: RoomVersion, pdus: ReadonlyArray<unknown>) => verifyPdus(version, pdus),
    onRed,
    onGreen
  }
})

const outcome = (result: VerifiedPdu): string => (Result.isSuccess(result) ? "good" : result.failure._tag)

describe("PduVerification", () => {
  it.live("each PDU is judged for itself, by the keys of its own origin", () =>
    Effect.gen(function* () {
      const { onGreen, onRed, verify } = yield* verifier
      const good = pduOf(red, "hello")
      const { signatures: _, ...unsigned } = good
      const forged = { ...good, signatures: { "red.test": pduOf(red, "other").signatures } }
      const dead = generateSigningKey("dead.test" as ServerName, "ed25519:d")
      const stolen = generateSigningKey("red.test" as ServerName, "ed25519:g")
      const results = yield* verify([
        good,
        pduOf(green, "hello"),
        { ...good, user_id: "@mallory:red.test" },
        { ...unsigned, signatures: {} },
        unsigned,
        forged,
        pduOf(stolen, "hello"),
        pduOf(dead, "hello"),
        { ...good, content: { body: "x".repeat(70_000) } },
        "text"
      ])
      assert.deepStrictEqual(results.map(outcome), [
        "good",
        "good",
        "BadSignature",
        "BadSignature",
        "Malformed",
        "Malformed",
        "BadSignature",
        "NoKeys",
        "TooLarge",
        "Malformed"
      ])
      assert.deepStrictEqual([onRed.requests.length, onGreen.requests.length], [1, 1])
    })
  )

  it.live(
    "a PDU without a signature by a known algorithm is refused at once, also where its server cannot be asked",
    () =>
      Effect.gen(function* () {
        const { onGreen, verify } = yield* verifier
        const dead = generateSigningKey("dead.test" as ServerName, "ed25519:d")
        const by = (key: SigningKey, keyId: string) => ({
          ...pduOf(key, keyId),
          signatures: { [key.serverName]: { [keyId]: "A".repeat(86) } }
        })
        const alone = yield* verify([by(green, "ml-dsa-44:g"), by(green, "ed25519")])
        assert.deepStrictEqual(alone.map(outcome), ["BadSignature", "BadSignature"])
        assert.strictEqual(onGreen.requests.length, 0)
        const results = yield* verify([pduOf(dead, "hello"), by(dead, "ml-dsa-44:d"), by(dead, "ed25519:d")])
        assert.deepStrictEqual(results.map(outcome), ["NoKeys", "BadSignature", "NoKeys"])
      })
  )

  it.live("nobody is asked for the keys of PDUs of another room than the one that is wanted", () =>
    Effect.gen(function* () {
      const { onGreen, onRed, verifyIn } = yield* verifier
      const results = yield* verifyIn("!other:red.test", [pduOf(red, "hello"), pduOf(green, "hello")])
      assert.deepStrictEqual(results.map(outcome), ["Malformed", "Malformed"])
      assert.deepStrictEqual([onRed.requests.length, onGreen.requests.length], [0, 0])
      const [wanted] = yield* verifyIn("!room:red.test", [pduOf(red, "hello")])
      assert.strictEqual(outcome(wanted!), "good")
    })
  )

  it.live("a membership made for a user of another server is judged by the keys of both servers", () =>
    Effect.gen(function* () {
      const { onGreen, onRed, verify } = yield* verifier
      const dead = generateSigningKey("dead.test" as ServerName, "ed25519:d")
      const stolen = generateSigningKey("green.test" as ServerName, "ed25519:g")
      const results = yield* verify([joinFor(green), joinFor(stolen), joinFor(dead)])
      assert.deepStrictEqual(results.map(outcome), ["good", "BadSignature", "NoKeys"])
      assert.deepStrictEqual([onRed.requests.length, onGreen.requests.length], [1, 1])
    })
  )

  it.live("from room version 5 on a key verifies no events from after its valid_until_ts", () =>
    Effect.gen(function* () {
      const { verifyAs } = yield* verifier
      for (const version of roomVersions.values()) {
        if (isDraft(version)) continue
        const proposal = {
          room_id: (version.id === "12" ? `!${"x".repeat(43)}` : "!room:red.test") as RoomId,
          sender: "@alice:red.test" as UserId,
          type: "m.room.message",
          content: { msgtype: "m.text", body: "from the future" }
        }
        const place = { prevEvents: [], state: () => undefined, now: now + 30 * 86_400_000 }
        const [result] = yield* verifyAs(version, [version.toPdu(version.build(proposal, place, red))])
        assert.strictEqual(outcome(result!) === "good", Number(version.id) < 5, version.id)
      }
    })
  )

  it.live("altered content under a right signature leaves the event redacted", () =>
    Effect.gen(function* () {
      const { verify } = yield* verifier
      const [result] = yield* verify([{ ...pduOf(red, "hello"), content: { body: "altered" } }])
      assert.deepStrictEqual(Result.getOrThrow(result!).content, {})
    })
  )

  it.live("thousands of PDUs are verified in many turns of the event loop", () =>
    Effect.gen(function* () {
      const { verify } = yield* verifier
      const pdus = Array.from({ length: 2_000 }, (_, i) => pduOf(red, `message ${i}`))
      // The key is known from here on: the turns that are counted are not those of a request for it.
      yield* verify(pdus.slice(0, 1))
      let turns = 0
      const count = () => {
        turns++
        timer = setImmediate(count)
      }
      let timer = setImmediate(count)
      const results = yield* verify(pdus)
      clearImmediate(timer)
      assert.isTrue(results.every(Result.isSuccess))
      assert.isAbove(turns, 20)
    })
  )

  it.live("of very many PDUs, whose signatures threads check, each is judged for itself too", () =>
    Effect.gen(function* () {
      const { onGreen, verifyAs } = yield* verifier
      const version = roomVersion("11")!
      const pdus = Array.from({ length: 1_200 }, (_, index): JsonObject => {
        const proposal = {
          room_id: "!room:red.test" as RoomId,
          sender: `@alice:${index % 2 === 0 ? "red" : "green"}.test` as UserId,
          type: "m.room.message",
          content: { msgtype: "m.text", body: `message ${index}` }
        }
        const place = { prevEvents: [], state: () => undefined, now }
        return version.toPdu(version.build(proposal, place, index % 2 === 0 ? red : green))
      })
      const other = pdus[2] as { readonly signatures: JsonObject }
      const spoiled = pdus.map((pdu, index) => {
        if (index % 100 === 0) return { ...pdu, signatures: other.signatures }
        return index % 100 === 1 ? { ...pdu, content: { body: "changed" } } : pdu
      })
      const results = yield* verifyAs(version, spoiled)
      for (const [index, result] of results.entries()) {
        if (index % 100 === 0) assert.strictEqual(outcome(result), "BadSignature")
        else assert.deepStrictEqual(Result.getOrThrow(result).content, index % 100 === 1 ? {} : pdus[index]!.content)
      }
      assert.strictEqual(onGreen.requests.length, 1)
    })
  )
})
