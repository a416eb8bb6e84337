import { assert, describe, it } from "@effect/vitest"
import { eduFreshness, PendingEdus } from "../../src/federation/PendingEdus.ts"

const typing = (userId: string, isTyping: boolean) => ({
  edu_type: "m.typing",
  content: { room_id: "!room:red.test", user_id: userId, typing: isTyping }
})

const presence = (userId: string, state: string) => ({
  edu_type: "m.presence",
  content: { push: [{ user_id: userId, state, presence: state, last_active_ago: 5 }] }
})

describe("PendingEdus", () => {
  it("sends only the last value of typing and presence", () => {
    const edus = new PendingEdus()
    edus.add(typing("@a:red.test", true), 0)
    edus.add(typing("@b:red.test", true), 0)
    edus.add(typing("@a:red.test", false), 1)
    edus.add(presence("@a:red.test", "online"), 1)
    edus.add(presence("@b:red.test", "online"), 1)
    edus.add(presence("@a:red.test", "unavailable"), 2)
    const [first, ...others] = edus.take(100, 12.254)
    assert.deepStrictEqual(first?.content, {
      push: [
        { user_id: "@b:red.test", state: "online", presence: "online", last_active_ago: 16 },
        { user_id: "@a:red.test", state: "unavailable", presence: "unavailable", last_active_ago: 15 }
      ]
    })
    assert.deepStrictEqual(others, [typing("@b:red.test", true), typing("@a:red.test", false)])
    assert.isTrue(edus.isEmpty)
  })

  it("the age of an activity is a whole number of milliseconds, which alone has a canonical form", () => {
    const edus = new PendingEdus()
    edus.add(presence("@a:red.test", "online"), 1.25)
    assert.deepStrictEqual(edus.take(1, 9.5)[0]?.content.push, [
      { user_id: "@a:red.test", state: "online", presence: "online", last_active_ago: 13 }
    ])
  })

  it("a user who is polled and then unpolled is unpolled", () => {
    const edus = new PendingEdus()
    edus.add({ edu_type: "m.presence", content: { poll: ["@a:blue.test", "@b:blue.test"] } }, 0)
    edus.add({ edu_type: "m.presence", content: { unpoll: ["@a:blue.test"] } }, 1)
    assert.deepStrictEqual(edus.take(1, 2), [
      { edu_type: "m.presence", content: { poll: ["@b:blue.test"], unpoll: ["@a:blue.test"] } }
    ])
  })

  it("values that waited too long are not sent, and values beyond the bound are dropped", () => {
    const edus = new PendingEdus()
    edus.add(typing("@old:red.test", true), 0)
    for (let count = 0; count < 5_000; count++) edus.add(typing(`@${count}:red.test`, true), 1)
    const taken: Array<unknown> = []
    while (!edus.isEmpty) {
      const some = edus.take(100, 2)
      assert.isAtMost(some.length, 100)
      taken.push(...some)
    }
    assert.lengthOf(taken, 1_000)
    edus.add(typing("@late:red.test", true), 0)
    edus.add(presence("@late:red.test", "online"), 0)
    assert.deepStrictEqual(edus.take(100, eduFreshness + 1), [])
  })
})
