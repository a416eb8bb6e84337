/**
 * The aliases that m.room.canonical_alias names: they point to the room when they are added, and an alias that is removed does not
 * stay there.
 *
 * Source: `PUT /rooms/{roomId}/state/m.room.canonical_alias` and `DELETE /directory/room/{roomAlias}` of the client-server
 * specification.
 */
import { isRoomAlias, type RoomAlias, type RoomId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadAlias, InvalidParam, type MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import type { Session } from "../runtime/Session.ts"
import type { Rooms } from "./Rooms.ts"

const stateType = "m.room.canonical_alias"

/** How many aliases one event may add: each is looked up, maybe at another server. */
const maxAdded = 20

const aliasesOf = ({ alias, alt_aliases }: JsonObject): ReadonlyArray<unknown> => [
  ...(alias === undefined || alias === null || alias === "" ? [] : [alias]),
  ...(Array.isArray(alt_aliases) ? alt_aliases : [])
]

const current = (rooms: Rooms["Service"], session: Session, roomId: RoomId): Effect.Effect<JsonObject> =>
  Effect.catch(rooms.getState(session, roomId, stateType, ""), () => Effect.succeed({}))

/** Errors: M_INVALID_PARAM for malformed aliases, M_BAD_ALIAS for an alias that is new in the event and leads elsewhere. */
export const checkCanonicalAliases = Effect.fnUntraced(function* (
  rooms: Rooms["Service"],
  session: Session,
  roomId: RoomId,
  content: JsonObject
): Effect.fn.Return<void, MatrixError> {
  const named = aliasesOf(content)
  if (named.length === 0) return
  const known = new Set(aliasesOf(yield* current(rooms, session, roomId)))
  const added = [...new Set(named)].filter((alias) => !known.has(alias))
  if (added.length > maxAdded)
    return yield* new InvalidParam({ error: `At most ${maxAdded} aliases can be added at once` })
  for (const alias of added) {
    if (!isRoomAlias(alias)) return yield* new InvalidParam({ error: "alias: expected a room alias" })
    const found = yield* Effect.catch(rooms.resolveAlias(alias), () => Effect.undefined)
    if (found?.room_id !== roomId) return yield* new BadAlias({ error: `${alias} does not point to the room` })
  }
})

/** Takes a removed alias out of the event, where the user may send it. */
export const dropCanonicalAlias = Effect.fnUntraced(function* (
  rooms: Rooms["Service"],
  session: Session,
  roomId: RoomId,
  removed: RoomAlias
) {
  const before = yield* current(rooms, session, roomId)
  if (!aliasesOf(before).includes(removed)) return
  const { alias, alt_aliases, ...others } = before
  const alternatives = Array.isArray(alt_aliases) ? alt_aliases.filter((entry) => entry !== removed) : []
  const content = {
    ...others,
    ...(alias === undefined || alias === removed ? {} : { alias }),
    ...(alternatives.length === 0 ? {} : { alt_aliases: alternatives })
  }
  yield* Effect.ignore(rooms.setState(session, roomId, stateType, "", content))
})
