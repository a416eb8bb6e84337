import { assert, describe, it } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Result } from "effect"
import type { PushContext } from "../../../src/room/MemberPushRules.ts"
import { compileRuleset, evaluate, parsePropertyPath } from "../../../src/user/push/PushRuleEvaluation.ts"
import {
  changeRule,
  deleteRule,
  maxPushRules,
  noSettings,
  type PushRuleSettings,
  putRule,
  rulesetOf
} from "../../../src/user/push/PushRules.ts"

const alice = "@alice:green.test" as UserId
const room = "!room:green.test" as RoomId

const event = (type: string, content: JsonObject, stateKey?: string) =>
  ({
    type,
    content,
    room_id: room,
    sender: "@bob:green.test",
    ...(stateKey === undefined ? {} : { state_key: stateKey })
  }) as unknown as Event

const message = (body: string, more: JsonObject = {}) => event("m.room.message", { msgtype: "m.text", body, ...more })

const context = (event: Event, given: Partial<PushContext> = {}): PushContext => ({
  event,
  memberCount: 3,
  mayNotify: () => false,
  ...given
})

const outcome = (settings: PushRuleSettings, event: Event, given: Partial<PushContext> = {}, name?: string) =>
  evaluate(compileRuleset(rulesetOf(settings, alice)), context(event, given), name)

const done = Result.getOrThrow
const errcodeOf = (result: Result.Result<unknown, { readonly _tag: string }>) =>
  Result.isFailure(result) ? result.failure._tag : undefined

describe("the push rules that everybody has", () => {
  it("a message notifies, a notice, an edit, a reaction and a change of membership do not", () => {
    assert.deepInclude(outcome(noSettings, message("hello")), { notify: true, highlight: false })
    assert.isFalse(outcome(noSettings, message("hello", { msgtype: "m.notice" })).notify)
    assert.isFalse(outcome(noSettings, message("hello", { "m.relates_to": { rel_type: "m.replace" } })).notify)
    assert.isFalse(outcome(noSettings, event("m.reaction", {})).notify)
    assert.isFalse(outcome(noSettings, event("m.room.member", { membership: "join" }, "@carol:green.test")).notify)
    assert.isFalse(outcome(noSettings, event("m.room.topic", { topic: "tea" }, "")).notify)
  })

  it("a mention is highlighted; one of the whole room only from a user with the power to", () => {
    const mention = message("hello", { "m.mentions": { user_ids: [alice] } })
    assert.isTrue(outcome(noSettings, mention).highlight)
    const everybody = message("hello", { "m.mentions": { room: true } })
    assert.isFalse(outcome(noSettings, everybody).highlight)
    assert.isTrue(outcome(noSettings, everybody, { mayNotify: (key) => key === "room" }).highlight)
    assert.isTrue(outcome(noSettings, event("m.room.tombstone", {}, "")).highlight)
  })

  it("an invitation of the user notifies, and a message in a room of two makes a sound", () => {
    assert.isTrue(outcome(noSettings, event("m.room.member", { membership: "invite" }, alice)).notify)
    assert.deepStrictEqual(outcome(noSettings, message("hello"), { memberCount: 2 }).actions, [
      "notify",
      { set_tweak: "sound", value: "default" }
    ])
  })
})

describe("the push rules of a user", () => {
  it("a rule of the user comes before the defaults, but not before the master rule", () => {
    const quiet = done(putRule(noSettings, "room", room, { actions: [] }))
    assert.isFalse(outcome(quiet, message("hello")).notify)
    const cake = done(putRule(quiet, "content", "cake", { pattern: "cake", actions: ["notify"] }))
    assert.isTrue(outcome(cake, message("A cake!")).notify)
    const off = done(changeRule(cake, alice, "override", ".m.rule.master", { enabled: true }))
    assert.isFalse(outcome(off, message("A cake!")).notify)
  })

  it("new rules are the most important ones, or stand where before and after say", () => {
    let settings = done(putRule(noSettings, "override", "a", { actions: [] }))
    settings = done(putRule(settings, "override", "b", { actions: [] }))
    settings = done(putRule(settings, "override", "c", { actions: [], after: "a" }))
    settings = done(putRule(settings, "override", "d", { actions: [], before: "a" }))
    const ids = () => settings.own.override?.map((rule) => rule.rule_id)
    assert.deepStrictEqual(ids(), ["b", "d", "a", "c"])
    settings = done(putRule(settings, "override", "a", { actions: ["notify"] }))
    assert.deepStrictEqual(ids(), ["b", "d", "a", "c"])
    assert.strictEqual(errcodeOf(putRule(settings, "override", "e", { actions: [], after: "?" })), "M_UNKNOWN")
  })

  it("patterns that are made to be slow end with the steps of their user, and do not decide for others", () => {
    const tweak = { set_tweak: "sound", value: "tea" }
    const match = (pattern: string) => ({ kind: "event_match", key: "content.body", pattern })
    const rule = (settings: PushRuleSettings, id: string, pattern: string) =>
      done(putRule(settings, "override", id, { conditions: [match(pattern)], actions: ["notify", tweak] }))
    const tea = rule(noSettings, "tea", "tea")
    const slow = Array.from({ length: 200 }).reduce<PushRuleSettings>(
      (settings, _, index) => rule(settings, `slow${index}`, `*${"?a".repeat(1_000)}b*${index}`),
      tea
    )
    const met = context(message(`${"a".repeat(50_000)} tea`))
    const actions = (settings: PushRuleSettings) => evaluate(compileRuleset(rulesetOf(settings, alice)), met).actions
    assert.notDeepInclude(actions(slow), tweak)
    assert.deepInclude(actions(tea), tweak)
    // The steps of all users together have an end too.
    for (let user = 0; user < 20; user++) actions(rule(slow, `slower${user}`, `*${"?a".repeat(1_000)}c*${user}`))
    assert.notDeepInclude(actions(rule(noSettings, "te", "te?")), tweak)
  })

  it("a rule that does not notify highlights nothing", () => {
    const rule = { conditions: [], actions: [{ set_tweak: "highlight" }] }
    const found = outcome(done(putRule(noSettings, "override", "quiet", rule)), message("hello"))
    assert.deepInclude(found, { notify: false, highlight: false })
  })

  it("conditions compare the number of members, the display name, and properties with dots in their names", () => {
    const rule = (condition: JsonObject) =>
      done(putRule(noSettings, "override", "rule", { conditions: [condition], actions: [] }))
    const matches = (condition: JsonObject, given: Partial<PushContext> = {}, name?: string) =>
      !outcome(rule(condition), message("Hello Alice B, tea?", { "a.b": { "c\\d": 1 } }), given, name).notify
    assert.isTrue(matches({ kind: "room_member_count", is: ">=3" }))
    assert.isTrue(matches({ kind: "room_member_count", is: "<=3" }))
    assert.isFalse(matches({ kind: "room_member_count", is: "<3" }))
    assert.isFalse(matches({ kind: "room_member_count", is: ">3" }))
    assert.isTrue(matches({ kind: "contains_display_name" }, {}, "alice b"))
    assert.isFalse(matches({ kind: "contains_display_name" }, {}, "ali"))
    assert.isTrue(matches({ kind: "event_property_is", key: "content.a\\.b.c\\\\d", value: 1 }))
    assert.isFalse(matches({ kind: "event_property_is", key: "content.a\\.b.c\\\\d", value: "1" }))
    assert.isFalse(matches({ kind: "event_match", key: "content.missing", pattern: "*" }))
    assert.isFalse(matches({ kind: "org.example.unknown" }))
    assert.deepStrictEqual(parsePropertyPath("content.m\\.mentions.x\\y"), ["content", "m.mentions", "x\\y"])
  })

  it("conditions on the same property are evaluated apart, for one event too", () => {
    const rule = (id: string, pattern: string) => ({
      id,
      rule: { conditions: [{ kind: "event_match", key: "content.body", pattern }], actions: [id] }
    })
    const settings = [rule("notify", "tea"), rule("coalesce", "coffee")].reduce<PushRuleSettings>(
      (before, { id, rule }) => done(putRule(before, "override", id, rule)),
      noSettings
    )
    // The newest rule, for coffee, is evaluated first.
    assert.isTrue(outcome(settings, message("tea", { msgtype: "m.notice" })).notify)
    assert.isFalse(outcome(settings, message("coffee")).notify)
  })

  it("refuses actions that are none, and conditions without what their kind requires", () => {
    const put = (rule: object) => errcodeOf(putRule(noSettings, "override", "a", { actions: [], ...rule }))
    for (const action of ["explode", "", { set_tweak: 1 }, {}, ["notify"]]) {
      assert.strictEqual(put({ actions: ["notify", action] }), "M_UNKNOWN", JSON.stringify(action))
      const change = { actions: [action] as never }
      assert.strictEqual(errcodeOf(changeRule(noSettings, alice, "override", ".m.rule.master", change)), "M_UNKNOWN")
    }
    assert.isUndefined(put({ actions: ["notify", "dont_notify", "coalesce", { set_tweak: "x" }] }))
    const wrong = [
      {},
      { kind: 1 },
      { kind: "event_match", key: "type" },
      { kind: "event_match", pattern: "x" },
      { kind: "event_property_is", key: "type", value: {} },
      { kind: "event_property_contains", key: "type" },
      { kind: "room_member_count", is: 2 },
      { kind: "room_member_count", is: "=2" },
      { kind: "sender_notification_permission" }
    ]
    for (const condition of wrong)
      assert.strictEqual(put({ conditions: [condition] }), "M_UNKNOWN", JSON.stringify(condition))
    assert.isUndefined(
      put({ conditions: [{ kind: "org.example.new" }, { kind: "event_property_is", key: "a", value: null }] })
    )
  })

  it("refuses names of the server, unknown rules, and more rules than a user may have", () => {
    assert.strictEqual(errcodeOf(putRule(noSettings, "room", ".mine", { actions: [] })), "M_INVALID_PARAM")
    assert.strictEqual(errcodeOf(putRule(noSettings, "room", "a/b", { actions: [] })), "M_INVALID_PARAM")
    assert.strictEqual(errcodeOf(deleteRule(noSettings, "room", "nothing")), "M_NOT_FOUND")
    assert.strictEqual(errcodeOf(changeRule(noSettings, alice, "room", "nothing", {})), "M_NOT_FOUND")
    const own = {
      room: Array.from({ length: maxPushRules }, (_, i) => ({ rule_id: `r${i}`, enabled: true, actions: [] }))
    }
    const full = { ...noSettings, own }
    assert.strictEqual(errcodeOf(putRule(full, "room", "one", { actions: [] })), "M_USER_LIMIT_EXCEEDED")
    assert.strictEqual(errcodeOf(putRule(full, "room", "r0", { actions: [] })), undefined)
  })
})
