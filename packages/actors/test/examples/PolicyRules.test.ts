import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import rules from "../../examples/PolicyRules.ts"
import { flood, links, newAccounts, type PolicyQuestion, policyLists } from "../../src/policy/PolicyRules.ts"

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

describe("the rules of a policy server", () => {
  const question = (text: string, given: Partial<PolicyQuestion> = {}): PolicyQuestion => ({
    event: { type: "m.room.message", sender: "@a:b.test", room_id: "!r:b.test", content: {} } as unknown as Event,
    text,
    now: day,
    joinedAt: 0,
    recentEvents: () => 1,
    lists: [],
    ...given
  })

  it("a flood is more than the events of the seconds", () => {
    const rule = flood({ events: 10, seconds: 30 })
    const sent = (count: number) => question("", { recentEvents: (ms) => (ms === 30_000 ? count : 100) })
    assert.isUndefined(rule(sent(10)))
    assert.isString(rule(sent(11)))
  })

  it("links are allowed to the named hosts and their subdomains alone", () => {
    const rule = links({ allowed: ["matrix.org"] })
    for (const host of ["matrix.org", "MATRIX.org:8448", "spec.matrix.org", "user:secret@matrix.org"]) {
      assert.isUndefined(rule(question(`see https://${host}/x`)), host)
    }
    for (const host of ["evilmatrix.org", "matrix.org.evil.test", "matrix.org@evil.test", "evil.test:443"]) {
      assert.isString(rule(question(`see https://${host}/x`)), host)
    }
  })

  it("rules for new accounts apply in the minutes after the join, and to users that are not in the room", () => {
    const rule = newAccounts({ minutes: 10 }, links())
    const refused = (joinedAt: number | undefined) => rule(question("https://evil.test", { joinedAt })) !== undefined
    const ends = day - 10 * 60_000
    assert.deepStrictEqual([refused(ends - 1), refused(ends), refused(undefined)], [false, true, true])
  })

  it("policy lists ban users, servers and rooms by globs", () => {
    const isBanned = (kind: "user" | "server" | "room", entity: string) =>
      policyLists(question("", { lists: [{ kind, entity, reason: "spam" }] })) !== undefined
    for (const [kind, entity] of [
      ["user", "@a:*"],
      ["server", "b.test"],
      ["room", "!r:?.test"]
    ] as const) {
      assert.isTrue(isBanned(kind, entity), entity)
      for (const other of ["user", "server", "room"] as const)
        if (other !== kind) assert.isFalse(isBanned(other, entity))
    }
  })
})
