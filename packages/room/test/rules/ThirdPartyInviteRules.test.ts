/** The rules about third-party invites, in the room versions 1 to 12. */
import { describe, it } from "@effect/vitest"
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { senderMustBeJoined } from "@greenroom/room/OutsiderRules"
import { encodeBase64, exportVerifyKey, generateSigningKey, signJson, verifyKeyOf } from "@greenroom/room/Signing"
import { Result } from "effect"
import { alice, bob, carol, dave, ids, type LinearRoom, makeRoom, proposalOf } from "../support/LinearRoom.ts"

describe("Third-party invites", () => {
  const identityKey = generateSigningKey("id.example" as ServerName, "ed25519:0")
  const publicKey = encodeBase64(exportVerifyKey(verifyKeyOf(identityKey)))

  const signed = (mxid: string, token = "token"): JsonObject =>
    Result.getOrThrow(signJson({ mxid, token }, identityKey))

  const invite = (room: LinearRoom, by: UserId, proof: Json, whom = carol) =>
    room.member(by, whom, "invite", { third_party_invite: { display_name: "c...", signed: proof } })

  const withToken = (id: string, content: JsonObject = { public_key: publicKey }): LinearRoom =>
    makeRoom(id).allows(proposalOf(bob, "m.room.third_party_invite", content, "token"))

  it("third-party invites must be signed by a key that the event with the token names", () => {
    for (const id of ids) {
      for (const content of [
        { public_key: publicKey },
        { public_keys: [{ public_key: "A".repeat(43) }, { public_key: publicKey }] },
        { public_key: publicKey.replaceAll("+", "-").replaceAll("/", "_") }
      ]) {
        withToken(id, content).allows(invite(withToken(id, content), bob, signed(carol)))
      }
      const other = withToken(id, { public_key: "A".repeat(43) })
      other.refuses(invite(other, bob, signed(carol)), "is signed by a key that the token names")
    }
  })

  it("third-party invites are valid for the user that the identity server names, from the sender of the token, and not for banned users", () => {
    for (const id of ids) {
      const room = withToken(id)
      const wrongToken = "An invite by a token comes from the user who stored the token"
      room.refuses(invite(room, bob, signed(dave)), "what an identity server signed for the invited user")
      room.refuses(invite(room, bob, null), "what an identity server signed for the invited user")
      room.refuses(invite(room, bob, signed(carol, "other")), wrongToken)
      room.refuses(invite(room, alice, signed(carol)), wrongToken)
      room.refuses(invite(room, bob, { ...signed(carol), more: 1 }), wrongToken)
      room.allows(room.member(alice, carol, "ban"))
      room.refuses(invite(room, bob, signed(carol)), "Banned users cannot be invited")
    }
  })

  it("what an identity server signed has a token, also where the state key of m.room.third_party_invite is empty", () => {
    for (const id of ids) {
      const room = makeRoom(id).allows(proposalOf(bob, "m.room.third_party_invite", { public_key: publicKey }, ""))
      const withoutToken = Result.getOrThrow(signJson({ mxid: carol }, identityKey))
      room.refuses(invite(room, bob, withoutToken), "what an identity server signed for the invited user")
    }
  })

  it("signatures of third-party invites are tried with at most 32 keys", () => {
    const others = Array.from({ length: 40 }, (_, n) =>
      encodeBase64(exportVerifyKey(verifyKeyOf(generateSigningKey("x" as ServerName, `ed25519:${n}`))))
    )
    const listed = (...keys: ReadonlyArray<string>) => ({ public_keys: keys.map((public_key) => ({ public_key })) })
    const within = withToken("12", listed(...others.slice(0, 30), publicKey))
    within.allows(invite(within, bob, signed(carol)))
    const beyond = withToken("12", listed(...others, publicKey))
    beyond.refuses(invite(beyond, bob, signed(carol)), "is signed by a key that the token names")
  })

  it("at most 32 signatures of third-party invites are tried", () => {
    const proof = signed(carol)
    const others = (length: number) => Array.from({ length }, (_, n) => [`ed25519:${n + 1}`, "A".repeat(86)])
    const behind = (length: number) => ({
      ...proof,
      signatures: { "other.example": Object.fromEntries(others(length)), ...(proof.signatures as JsonObject) }
    })
    const within = withToken("12")
    within.allows(invite(within, bob, behind(31)))
    const beyond = withToken("12")
    beyond.refuses(invite(beyond, bob, behind(32)), "is signed by a key that the token names")
  })

  it("the member `unsigned` is no part of what an identity server signed", () => {
    for (const id of ids) {
      const room = withToken(id)
      room.allows(invite(room, bob, { ...signed(carol), unsigned: { age: 1 } }))
    }
  })

  it("third-party invites need the power to invite", () => {
    for (const id of ids) {
      const room = makeRoom(id)
      room.refuses(proposalOf(carol, "m.room.third_party_invite", {}, "token"), senderMustBeJoined)
      room.allows(room.member(carol, carol, "join")).allows(room.levels(alice, { [bob]: 50 }, { invite: 50 }))
      room.refuses(
        proposalOf(carol, "m.room.third_party_invite", {}, "token"),
        "Inviting requires the power level `invite`"
      )
      room.allows(proposalOf(bob, "m.room.third_party_invite", {}, "token"))
    }
  })
})
