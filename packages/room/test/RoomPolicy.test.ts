import { assert, describe, it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { isRecommended, needsRecommendation, policyIn } from "@greenroom/room/RoomPolicy"
import { encodeBase64, exportVerifyKey, generateSigningKey, verifyKeyOf } from "@greenroom/room/Signing"
import { alice, makeRoom, proposalOf } from "./support/LinearRoom.ts"

const via = "policy.example" as ServerName
const ed25519 = encodeBase64(exportVerifyKey(verifyKeyOf(generateSigningKey(via, "ed25519:policy_server"))))

describe("The policy server of a room", () => {
  it("is in force while it has a user in the room, and is named with a key", () => {
    const policyOf = (content: JsonObject, stateKey = "") => {
      const room = makeRoom("11").allows(proposalOf(alice, "m.room.policy", content, stateKey))
      return policyIn(room.state, (server) => server === via)?.via
    }
    const public_keys = { ed25519 }
    assert.strictEqual(policyOf({ via, public_keys }), via)
    assert.isUndefined(policyOf({ via: "elsewhere.example", public_keys }))
    assert.isUndefined(policyOf({ via, public_keys }, "other"))
    assert.isUndefined(policyOf({ via }))
    assert.isUndefined(policyOf({ via, public_keys: { ed25519: 1 } }))
    assert.isUndefined(policyOf({ via: "no server name", public_keys }))
  })

  it("is named by the state of before version 1.18 in a room without m.room.policy", () => {
    const room = makeRoom("11")
    const policyOf = () => policyIn(room.state, (server) => server === via)
    const former = "org.matrix.msc4284.policy"
    room.allows(proposalOf(alice, former, { via, public_keys: { ed25519 } }, ""))
    assert.isUndefined(policyOf())
    room.allows(proposalOf(alice, former, { via, public_key: ed25519 }, ""))
    assert.strictEqual(policyOf()?.via, via)
    assert.isFalse(needsRecommendation({ type: former, state_key: "" }))
    room.allows(proposalOf(alice, "m.room.policy", {}, ""))
    assert.isUndefined(policyOf())
  })

  it("is in force with a key that is none, and recommends nothing then", () => {
    const content = { via, public_keys: { ed25519: "short" } }
    const room = makeRoom("11").allows(proposalOf(alice, "m.room.policy", content, ""))
    const policy = policyIn(room.state, (server) => server === via)!
    assert.strictEqual(policy.via, via)
    const key = generateSigningKey(via, "ed25519:policy_server")
    const event = room.version.sign(room.build(proposalOf(alice, "m.room.message")), key)
    assert.isFalse(isRecommended(room.version, event, policy))
  })

  it("recommends every event but the one that names it", () => {
    assert.isFalse(needsRecommendation({ type: "m.room.policy", state_key: "" }))
    assert.isTrue(needsRecommendation({ type: "m.room.policy", state_key: "other" }))
    assert.isTrue(needsRecommendation({ type: "m.room.policy" }))
    assert.isTrue(needsRecommendation({ type: "m.room.message" }))
  })
})
