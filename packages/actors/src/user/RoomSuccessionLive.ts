/**
 * Tags, the push rule of the room and its place among direct chats go along when a user joins the room that replaces
 * another.
 *
 * Source: "Room Upgrades" of the client-server specification.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { AccountDataStore } from "@greenroom/store/AccountDataStore"
import { Effect, Layer } from "effect"
import { RoomSuccession } from "../room/RoomSuccession.ts"
import { maxEntries } from "./AccountData.ts"
import { UserPushRules } from "./push/UserPushRules.ts"

const tagType = "m.tag"
const directType = "m.direct"

/** Lists the new room beside the old one, for each user that the old one is a direct chat with. */
const withSuccessor = (direct: JsonObject, from: RoomId, to: RoomId): JsonObject => {
  const changed = Object.entries(direct).map(([userId, rooms]) =>
    Array.isArray(rooms) && rooms.includes(from) && !rooms.includes(to)
      ? ([userId, [...rooms, to]] as const)
      : undefined
  )
  return changed.some((entry) => entry !== undefined)
    ? { ...direct, ...Object.fromEntries(changed.filter((entry) => entry !== undefined)) }
    : direct
}

const make = Effect.gen(function* () {
  const accountData = yield* AccountDataStore
  const pushRules = yield* UserPushRules

  const inheritTags = Effect.fnUntraced(function* (userId: UserId, from: RoomId, to: RoomId) {
    const tags = yield* accountData.get(userId, from, tagType)
    if (tags._tag === "None") return
    const inherited = (own: JsonObject) => (Object.keys(own).length === 0 ? tags.value : own)
    yield* accountData.update(userId, to, tagType, inherited, maxEntries)
  })

  const inheritDirect = Effect.fnUntraced(function* (userId: UserId, from: RoomId, to: RoomId) {
    const direct = yield* accountData.get(userId, undefined, directType)
    if (direct._tag === "None" || withSuccessor(direct.value, from, to) === direct.value) return
    yield* accountData.update(userId, undefined, directType, (content) => withSuccessor(content, from, to), maxEntries)
  })

  const inheritPushRule = Effect.fnUntraced(function* (userId: UserId, from: RoomId, to: RoomId) {
    const { room } = yield* pushRules.ruleset(userId)
    const rule = room.find(({ rule_id }) => rule_id === from)
    if (rule === undefined || room.some(({ rule_id }) => rule_id === to)) return
    yield* Effect.ignore(pushRules.put(userId, "room", to, { actions: rule.actions }))
  })

  return RoomSuccession.of({
    inherit: (userId, from, to) =>
      Effect.all([inheritTags(userId, from, to), inheritDirect(userId, from, to), inheritPushRule(userId, from, to)], {
        discard: true
      })
  })
})

/** Provides `RoomSuccession`. */
export const layer = Layer.effect(RoomSuccession, make)
