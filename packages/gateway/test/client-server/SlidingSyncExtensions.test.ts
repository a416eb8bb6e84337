import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { as, createRoom, gateway, inPath, register, sendText } from "../TestGateway.ts"
import { type Answer, bodies, enabled, inviteAndJoin, list, sync, types } from "./SlidingSyncClient.ts"

const elementXState = [
  ["m.room.name", ""],
  ["m.room.encryption", ""],
  ["m.room.member", "$LAZY"],
  ["m.room.member", "$ME"],
  ["m.room.topic", ""],
  ["m.room.avatar", ""],
  ["m.room.canonical_alias", ""],
  ["m.room.power_levels", ""],
  ["org.matrix.msc3401.call.member", "*"],
  ["m.room.join_rules", ""],
  ["m.room.tombstone", ""],
  ["m.room.create", ""],
  ["m.room.history_visibility", ""],
  ["io.element.functional_members", ""],
  ["m.space.parent", "*"],
  ["m.space.child", "*"],
  ["org.matrix.msc3672.beacon_info", "*"]
]

const notificationState = [
  ["m.room.encryption", ""],
  ["m.room.member", "$LAZY"],
  ["m.room.member", "$ME"],
  ["m.room.canonical_alias", ""],
  ["m.room.name", ""],
  ["m.room.avatar", ""],
  ["m.room.power_levels", ""],
  ["m.room.join_rules", ""],
  ["org.matrix.msc3401.call.member", "*"],
  ["m.room.create", ""],
  ["io.element.functional_members", ""]
]

/** The requests of matrix-sdk-ui 0.18: RoomListService, EncryptionSyncService and NotificationClient. */
const elementX = {
  roomList: (ranges: ReadonlyArray<readonly [number, number]>, opened?: string) => ({
    conn_id: "room-list",
    lists: { all_rooms: { ranges, required_state: elementXState, timeline_limit: 1, filters: {} } },
    ...(opened === undefined
      ? {}
      : {
          room_subscriptions: {
            [opened]: { required_state: [...elementXState, ["m.room.pinned_events", ""]], timeline_limit: 20 }
          }
        }),
    extensions: { account_data: enabled, receipts: { ...enabled, rooms: ["*"] }, typing: enabled }
  }),
  encryption: (since?: string) => ({
    conn_id: "encryption",
    extensions: { to_device: { ...enabled, ...(since === undefined ? {} : { since }) }, e2ee: enabled }
  }),
  notification: (room: string) => ({
    conn_id: "notifications",
    lists: {
      invites: {
        ranges: [[0, 16]],
        required_state: notificationState,
        timeline_limit: 8,
        filters: { is_invite: true }
      }
    },
    room_subscriptions: { [room]: { required_state: notificationState, timeline_limit: 16 } },
    extensions: { account_data: enabled }
  })
}

/** Checks the types that ruma expects: matrix-rust-sdk rejects a whole answer for one field of another type. */
const assertReadable = ({ extensions, lists, pos, rooms }: Answer) => {
  const isOneOf = (kinds: ReadonlyArray<string>, value: unknown) =>
    assert.include(kinds, value === null ? "null" : typeof value)
  const isCount = (value: unknown) =>
    assert.isTrue(value === undefined || (Number.isSafeInteger(value) && Number(value) >= 0), String(value))
  assert.isString(pos)
  for (const { count } of Object.values(lists)) isCount(count)
  for (const room of Object.values(rooms)) {
    const fields: { readonly [key: string]: unknown } = { ...room }
    for (const key of ["name", "avatar"]) isOneOf(["string", "null", "undefined"], fields[key])
    for (const key of ["initial", "is_dm", "limited"]) isOneOf(["boolean", "undefined"], fields[key])
    isOneOf(["string", "undefined"], room.prev_batch)
    for (const key of ["joined_count", "invited_count", "num_live", "bump_stamp"]) isCount(fields[key])
    for (const key of ["notification_count", "highlight_count"]) isCount(fields[key])
    for (const { user_id } of room.heroes ?? []) assert.isString(user_id)
    for (const event of [...(room.timeline ?? []), ...(room.required_state ?? [])]) {
      assert.containsAllKeys(event, ["type", "event_id", "sender", "origin_server_ts", "content"])
    }
    for (const event of [...(room.required_state ?? []), ...(room.invite_state ?? [])]) {
      assert.containsAllKeys(event, ["type", "state_key", "sender", "content"])
    }
  }
  for (const count of Object.values(extensions.e2ee?.device_one_time_keys_count ?? {})) isCount(count)
  for (const event of extensions.to_device?.events ?? []) assert.containsAllKeys(event, ["type", "sender", "content"])
  for (const receipt of Object.values(extensions.receipts?.rooms ?? {})) assert.isObject(receipt.content)
}

layer(gateway, { excludeTestServices: true })("extensions of sliding sync, and Element X", (it) => {
  it.effect("the extensions return account data, receipts and typing, first all and then updates", () =>
    Effect.gen(function* () {
      const alice = yield* register("ext-alice")
      const bob = yield* register("ext-bob")
      const room = yield* createRoom(alice)
      yield* inviteAndJoin(alice, bob, room)
      const event = yield* sendText(alice, room, "read me")
      const body = { ...list([[0, 9]]), extensions: { account_data: enabled, receipts: enabled, typing: enabled } }
      yield* as(bob)("PUT", `/v3/user/${inPath(bob.id)}/rooms/${inPath(room)}/account_data/org.example.note`, { a: 1 })
      const first = yield* sync(bob, body)
      assert.include(types(first.extensions.account_data?.global), "m.push_rules")
      assert.deepStrictEqual(types(first.extensions.account_data?.rooms?.[room]), ["org.example.note"])
      assert.notProperty(first.extensions, "typing")

      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read/${inPath(event)}`, {})
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/typing/${inPath(alice.id)}`, { typing: true, timeout: 30_000 })
      yield* as(bob)("PUT", `/v3/user/${inPath(bob.id)}/account_data/org.example.all`, { b: 2 })
      const updates = new Map<string, unknown>()
      for (let { pos } = first; updates.size < 3; ) {
        const answer = yield* sync(bob, body, pos, 20_000)
        pos = answer.pos
        const { account_data, receipts, typing } = answer.extensions
        for (const { content, type } of account_data?.global ?? []) updates.set(type, content)
        const receipt = receipts?.rooms[room]?.content
        if (receipt !== undefined) updates.set("m.receipt", Object.keys(receipt))
        if (typing?.rooms[room] !== undefined) updates.set("m.typing", typing.rooms[room].content)
      }
      assert.deepStrictEqual(Object.fromEntries(updates), {
        "org.example.all": { b: 2 },
        "m.receipt": [event],
        "m.typing": { user_ids: [alice.id] }
      })
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read.private/${inPath(event)}`, {})
      const anew = yield* sync(bob, { ...body, conn_id: "other" })
      assert.property(anew.extensions.receipts?.rooms[room]?.content ?? {}, event)
      assert.notInclude(JSON.stringify(anew.extensions.receipts), alice.id, "a private receipt of another user")
      assert.property(anew.extensions.typing?.rooms ?? {}, room)
    })
  )

  it.effect("invited users get no receipts and no typing", () =>
    Effect.gen(function* () {
      const alice = yield* register("ext-talker")
      const carol = yield* register("ext-invited")
      const room = yield* createRoom(alice)
      const path = `/v3/rooms/${inPath(room)}`
      const readAndType = Effect.gen(function* () {
        const event = yield* sendText(alice, room, "read by myself")
        yield* as(alice)("POST", `${path}/receipt/m.read/${inPath(event)}`, {})
        yield* as(alice)("PUT", `${path}/typing/${inPath(alice.id)}`, { typing: false })
        yield* as(alice)("PUT", `${path}/typing/${inPath(alice.id)}`, { typing: true, timeout: 30_000 })
      })
      yield* readAndType
      yield* as(alice)("POST", `${path}/invite`, { user_id: carol.id })
      const body = { ...list([[0, 9]]), extensions: { account_data: enabled, receipts: enabled, typing: enabled } }
      const first = yield* sync(carol, body)
      assert.property(first.rooms, room)
      yield* readAndType
      yield* as(carol)("PUT", `/v3/user/${inPath(carol.id)}/account_data/org.example.last`, {})
      const answers = [first]
      while (!types(answers.at(-1)!.extensions.account_data?.global).includes("org.example.last")) {
        answers.push(yield* sync(carol, body, answers.at(-1)!.pos, 20_000))
      }
      for (const { extensions } of answers) {
        assert.notProperty(extensions, "receipts")
        assert.notProperty(extensions, "typing")
      }
    })
  )

  it.effect("the answers to Element X have the types that matrix-rust-sdk expects", () =>
    Effect.gen(function* () {
      const alice = yield* register("x-alice")
      const bob = yield* register("x-bob")
      const encryption = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }
      const made = yield* as(alice)("POST", "/v3/createRoom", { name: "kitchen", initial_state: [encryption] })
      const room = made.body.room_id as unknown as string
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: bob.id })

      // Two connections start.
      const invited = yield* sync(bob, elementX.roomList([[0, 19]]))
      assertReadable(invited)
      assert.strictEqual(invited.rooms[room]?.membership, "invite")
      const keys = yield* sync(bob, elementX.encryption())
      assertReadable(keys)
      assert.isString(keys.extensions.to_device?.next_batch)
      assert.deepStrictEqual(keys.extensions.e2ee?.device_unused_fallback_key_types, [])

      // The user joins the room and opens it.
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/join`, {})
      const joined = yield* sync(bob, elementX.roomList([[0, 0]]), invited.pos)
      assertReadable(joined)
      const state = joined.rooms[room]?.required_state
      const wanted = ["m.room.create", "m.room.encryption", "m.room.name", "m.room.power_levels", "m.room.join_rules"]
      assert.includeMembers(types(state), [...wanted, "m.room.history_visibility"])
      assert.include(JSON.stringify(state), bob.id)
      for (const text of ["1", "2"]) yield* sendText(alice, room, text)
      const opened = yield* sync(bob, elementX.roomList([[0, 0]], room), joined.pos)
      assertReadable(opened)
      assert.deepStrictEqual(bodies(opened.rooms[room]), ["1", "2"])
      assert.deepStrictEqual(opened.lists, { all_rooms: { count: 1 } })

      // A to-device message ends the wait of the encryption connection.
      const polled = yield* Effect.forkChild(
        sync(bob, elementX.encryption(keys.extensions.to_device?.next_batch), keys.pos, 20_000)
      )
      const messages = { [bob.id]: { "*": { ciphertext: "of a room key" } } }
      yield* as(alice)("PUT", "/v3/sendToDevice/m.room.encrypted/x1", { messages })
      const received = yield* Fiber.join(polled)
      assertReadable(received)
      assert.deepStrictEqual(types(received.extensions.to_device?.events), ["m.room.encrypted"])

      // A push notification is read by a new connection.
      const eventId = yield* sendText(alice, room, "pushed")
      const pushed = yield* sync(bob, elementX.notification(room))
      assertReadable(pushed)
      assert.strictEqual(pushed.rooms[room]?.timeline?.at(-1)?.event_id, eventId)

      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const left = yield* sync(bob, elementX.roomList([[0, 0]], room), opened.pos)
      assertReadable(left)
      const own = left.rooms[room]?.required_state?.find(({ state_key }) => state_key === bob.id)
      assert.strictEqual(own?.content.membership, "leave")
    })
  )
})
