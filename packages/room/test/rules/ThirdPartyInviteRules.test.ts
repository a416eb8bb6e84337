/**
 * The rules for invites by a token, in every room version.
 */
import { describe, it } from "@effect/vitest"
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { encodeBase64, exportVerifyKey, generateSigningKey, signJson, verifyKeyOf } from "@greenroom/room/Signing"
import { Result } from "effect"
import { alice, bob, carol, dave, ids, type Line, room, say } from "../support/Line.ts"

describe("Invites by a token", () => {
  const identityKey = generateSigningKey("id.example" as ServerName, "ed25519:0")
  const publicKey = encodeBase64(exportVerifyKey(verifyKeyOf(identityKey)))

  const signed = (mxid: string, token = "token"): JsonObject =>
    Result.getOrThrow(signJson({ mxid, token }, identityKey))

  const invite = (line: Line, by: UserId, proof: Json, whom = carol) =>
    line.member(by, whom, "invite", { third_party_invite: { display_name: "c...", signed: proof } })

  const withToken = (id: string, content: JsonObject = { public_key: publicKey }): Line =>
    room(id).allows(say(bob, "m.room.third_party_invite", content, "token"))

  it("are signed by a key that was left with the token", () => {
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
      const line = withToken(id)
      const ofToken = "An invite by a token comes from the user who stored the token"
      line.refuses(invite(line, bob, signed(dave)), "what an identity server signed for the invited user")
      line.refuses(invite(line, bob, null), "what an identity server signed for the invited user")
      line.refuses(invite(line, bob, signed(carol, "other")), ofToken)
      line.refuses(invite(line, alice, signed(carol)), ofToken)
      line.refuses(invite(line, bob, { ...signed(carol), more: 1 }), ofToken)
      line.allows(line.member(alice, carol, "ban"))
      line.refuses(invite(line, bob, signed(carol)), "Banned users cannot be invited")
    }
  })

  it("are tried with 32 keys and signatures at most", () => {
    const others = Array.from({ length: 40 }, (_, n) =>
      encodeBase64(exportVerifyKey(verifyKeyOf(generateSigningKey("x" as ServerName, `ed25519:${n}`))))
    )
    const listed = (...keys: ReadonlyArray<string>) => ({ public_keys: keys.map((public_key) => ({ public_key })) })
    const within = withToken("12", listed(...others.slice(0, 30), publicKey))
    within.allows(invite(within, bob, signed(carol)))
    const beyond = withToken("12", listed(...others, publicKey))
    beyond.refuses(invite(beyond, bob, signed(carol)), "is signed by a key that the token names")
  })

  it("third-party invites need the power to invite", () => {
    for (const id of ids) {
      const line = room(id)
      line.allows(line.member(carol, carol, "join")).allows(line.levels(alice, { [bob]: 50 }, { invite: 50 }))
      line.refuses(say(carol, "m.room.third_party_invite", {}, "token"), "Inviting takes the power level `invite`")
    }
  })
})
