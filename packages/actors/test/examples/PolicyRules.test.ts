import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import rules from "../../examples/PolicyRules.ts"

const day = 24 * 60 * 60_000

/** What the first rule says that refuses a message of a member who joined so many milliseconds ago. */
const refusal = (content: { readonly body: string; readonly [key: string]: unknown }, since: number, recent = 1) => {
  const event = { type: "m.room.message", sender: "@a:b.test", room_id: "!r:b.test", content } as unknown as Event
  const question = {
    event,
    text: content.body,
    now: day * 10,
    joinedAt: day * 10 - since,
    recentEvents: () => recent,
    lists: []
  }
  return rules.map((rule) => rule(question)).find((reason) => reason !== undefined)
}

describe("the example of policy rules", () => {
  it("refuses spam, floods, links of new members, and mentions of everybody on the first day", () => {
    assert.isUndefined(refusal({ body: "hello" }, 1))
    assert.isString(refusal({ body: "free crypto for you" }, day * 2))
    assert.isString(refusal({ body: "hello" }, day * 2, 11))
    assert.isString(refusal({ body: "see https://evil.example/" }, 60_000))
    assert.isUndefined(refusal({ body: "see https://evil.example/" }, day * 2))
    const everybody = { body: "look", "m.mentions": { room: true } }
    assert.strictEqual(refusal(everybody, day / 2), "Please do not mention everybody on your first day")
    assert.isUndefined(refusal(everybody, day * 2))
  })
})
