import { assert, describe, it } from "@effect/vitest"
import { Option } from "effect"
import { maxPresenceUsers, readEdu } from "../../src/federation/Edu.ts"
import type { ServerName } from "../../src/Identifiers.ts"

const origin = "red.org" as ServerName
const read = (edu_type: string, content: unknown, rest = {}) =>
  Option.getOrUndefined(readEdu({ edu_type, origin, destination: "blue.org", content, ...rest }, origin))

describe("Edu", () => {
  it("presence is only of users of its origin, and a malformed entry does not affect the others", () => {
    const alice = { user_id: "@alice:red.org", state: "online", presence: "online", last_active_ago: 5 }
    const content = {
      push: [
        { user_id: "@alice:red.org", presence: "online", last_active_ago: 5, unknown: 1 },
        { user_id: "@bob:blue.org", state: "offline" },
        { user_id: "@carol:red.org", state: "dancing" },
        { user_id: "@dora:red.org", state: "offline", status_msg: "away" },
        7
      ],
      poll: ["@bob:blue.org"]
    }
    assert.deepStrictEqual(read("m.presence", content), {
      edu_type: "m.presence",
      content: {
        push: [alice, { user_id: "@dora:red.org", state: "offline", presence: "offline", status_msg: "away" }],
        poll: ["@bob:blue.org"],
        unpoll: []
      }
    } as never)
    const odd = {
      user_id: "@dora:red.org",
      presence: "online",
      status_msg: null,
      last_active_ago: -1,
      currently_active: 1
    }
    const long = { ...odd, user_id: "@alice:red.org", status_msg: "x".repeat(2_000), last_active_ago: "now" }
    const presence = { state: "online", presence: "online" }
    assert.deepStrictEqual(read("m.presence", { push: [odd, long] })?.content, {
      push: [
        { user_id: "@dora:red.org", ...presence, last_active_ago: 0 },
        { user_id: "@alice:red.org", ...presence, status_msg: "x".repeat(1_024) }
      ],
      poll: [],
      unpoll: []
    } as never)
    assert.isUndefined(read("m.presence", { poll: ["bob"] }))
    assert.isUndefined(read("m.presence", { poll: Array(maxPresenceUsers + 1).fill("@bob:blue.org") }))
  })

  it("presence invites come from the observer's server, and answers from the observed user's server", () => {
    const theirs = { observed_user: "@bob:blue.org", observer_user: "@alice:red.org" }
    const ours = { observed_user: "@alice:red.org", observer_user: "@bob:blue.org" }
    assert.isDefined(read("m.presence_invite", theirs))
    assert.isUndefined(read("m.presence_invite", ours))
    for (const type of ["m.presence_accept", "m.presence_deny"]) {
      assert.isDefined(read(type, ours))
      assert.isUndefined(read(type, theirs))
    }
  })

  it("typing is only of users of the origin", () => {
    const content = { room_id: "!r:red.org", user_id: "@alice:red.org", typing: true }
    assert.deepStrictEqual(read("m.typing", content), { edu_type: "m.typing", content } as never)
    // The form that Dendrite sends.
    assert.deepStrictEqual(read("m.typing", content, { origin: "" }), { edu_type: "m.typing", content } as never)
    assert.isUndefined(read("m.typing", { ...content, user_id: "@bob:blue.org" }))
    assert.isUndefined(read("m.typing", { ...content, typing: "yes" }))
  })

  it("send-to-device messages, key changes and receipts are only of users of the origin", () => {
    const messages = { "@bob:blue.org": { "*": { body: "hello" } } }
    const direct = { sender: "@alice:red.org", type: "m.test", message_id: "1", messages }
    assert.isDefined(read("m.direct_to_device", direct))
    assert.isUndefined(read("m.direct_to_device", { ...direct, sender: "@bob:blue.org" }))
    for (const type of ["m.device_list_update", "m.signing_key_update"]) {
      assert.isDefined(read(type, { user_id: "@alice:red.org", device_id: "A", stream_id: 1 }))
      assert.isUndefined(read(type, { user_id: "@bob:blue.org", device_id: "A", stream_id: 1 }))
    }
    const receipt = { data: { ts: 1 }, event_ids: ["$event"] }
    const receipts = (...users: ReadonlyArray<string>) => ({
      "!r:red.org": { "m.read": Object.fromEntries(users.map((user) => [user, receipt])) }
    })
    const mixed = read("m.receipt", receipts("@alice:red.org", "@bob:blue.org"))
    assert.include(JSON.stringify(mixed), "@alice:red.org")
    assert.notInclude(JSON.stringify(mixed), "@bob:blue.org")
    assert.isUndefined(read("m.receipt", receipts("@bob:blue.org")))
  })

  it("users whose IDs are not of printable ASCII are left out", () => {
    for (const user_id of ["@ü:red.org", "@a b:red.org"]) {
      assert.isUndefined(read("m.typing", { room_id: "!r:red.org", user_id, typing: true }))
      assert.isUndefined(read("m.device_list_update", { user_id, device_id: "A", stream_id: 1 }))
      assert.isUndefined(read("m.direct_to_device", { sender: user_id, type: "t", message_id: "1", messages: {} }))
      const receipt = { event_ids: ["$e:red.org"], data: { ts: 1 } }
      assert.isUndefined(read("m.receipt", { "!r:red.org": { "m.read": { [user_id]: receipt } } }))
      const presence = read("m.presence", { push: [{ user_id, presence: "online" }] })
      assert.deepStrictEqual(presence?.content, { push: [], poll: [], unpoll: [] } as never)
    }
  })

  it("unknown and malformed EDUs, and those of another server, are ignored", () => {
    assert.isUndefined(read("m.receipt", {}))
    assert.isUndefined(read("m.typing", "text"))
    assert.isUndefined(read("m.presence", {}, { origin: "evil.org" }))
    for (const value of [null, 1, "m.presence", [], {}]) assert.isTrue(Option.isNone(readEdu(value, origin)))
  })
})
