/**
 * The aliases of rooms that are being created. An alias is reserved before its room exists, so that two rooms cannot get it.
 *
 * Source: `room_alias_name` in "Creation" of the client-server specification.
 */
import { formatRoomAlias, isRoomAlias, type RoomAlias, type RoomId } from "@greenroom/protocol/Identifiers"
import { BadJson, RoomInUse } from "@greenroom/protocol/MatrixError"
import { DirectoryStore } from "@greenroom/store/DirectoryStore"
import { Effect } from "effect"
import { AppServices } from "../../app-service/AppServices.ts"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { defaultLimits } from "../../runtime/Limits.ts"
import type { Session } from "../../runtime/Session.ts"

export const makeAliasReservations = Effect.gen(function* () {
  const { limits, serverName } = yield* HomeServerConfig
  const directory = yield* DirectoryStore
  const appServices = yield* AppServices
  /** The aliases of rooms that this process is creating. */
  const held = new Set<RoomAlias>()
  const aliasOf = (localpart: string) => formatRoomAlias(localpart, serverName)

  /** Reserves the alias for the room. False if it was reserved for it already. An alias of a room whose creation failed counts as free. */
  const reserve = Effect.fnUntraced(function* (session: Session, roomId: RoomId, localpart: string) {
    const alias = aliasOf(localpart)
    if (!isRoomAlias(alias) || /[\s:]/.test(localpart)) {
      return yield* new BadJson({ error: `room_alias_name: ${localpart.slice(0, 64)} cannot be part of a room alias` })
    }
    const { aliases } = { ...defaultLimits, ...limits }
    const appService = appServices.withId(session.appService)
    yield* appServices.mayManageAlias(alias, appService)
    const entry = { roomId, servers: [serverName], creator: session.userId }
    return yield* directory.create(alias, entry, appService === undefined ? aliases : undefined)
  })

  /**
   * Runs a creation that no other creation of this process with the same alias may overlap. The store would not refuse the second one: it
   * gives a reserved alias to its creator again, because a repeated request needs it.
   */
  const holding = <A, E>(name: string | undefined, creation: Effect.Effect<A, E>): Effect.Effect<A, E | RoomInUse> => {
    if (name === undefined) return creation
    const alias = aliasOf(name)
    return Effect.suspend((): Effect.Effect<A, E | RoomInUse> => {
      if (held.has(alias)) return new RoomInUse({ error: `${alias} is taken` })
      held.add(alias)
      return Effect.ensuring(
        creation,
        Effect.sync(() => held.delete(alias))
      )
    })
  }

  return { reserve, holding }
})
