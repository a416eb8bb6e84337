/**
 * The end of sessions, and the devices of users. A logout is answered once every node refuses the token.
 *
 * Source: "Logout", "Device management" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { Effect, Redacted } from "effect"
import type { Session } from "../../runtime/Session.ts"
import type { Device } from "../Credentials.ts"

/** How long the name of a device may be. */
export const maxDeviceNameLength = 200

/** `refuseTokens` returns when no node accepts the tokens any more, which are not in the database. */
export const makeDeviceSessions = Effect.fnUntraced(function* (
  refuseTokens: (tokenIds: ReadonlyArray<number>) => Effect.Effect<void>
) {
  const store = yield* AccountStore

  const revokeAll = (userId: UserId) => Effect.flatMap(store.revokeAll(userId), refuseTokens)

  const logout = Effect.fn("Accounts.logout")(function* (session: Session) {
    yield* store.revoke(session.userId, session.tokenId)
    yield* refuseTokens([session.tokenId])
  })

  const revokeSecret = Effect.fn("Accounts.revokeSecret")(function* (secret: string) {
    const ended = yield* store.revokeSecret(Redacted.make(secret))
    yield* refuseTokens(ended)
    return ended
  })

  const logoutAll = Effect.fn("Accounts.logoutAll")(function* (session: Session) {
    yield* revokeAll(session.userId)
  })

  const logoutOthers = Effect.fn("Accounts.logoutOthers")(function* (session: Session) {
    const ended = yield* store.revokeAll(session.userId, { except: session.tokenId })
    yield* refuseTokens(ended)
    return ended
  })

  const logoutDevices = Effect.fn("Accounts.logoutDevices")(function* (userId: UserId, deviceIds: Iterable<string>) {
    const wanted = new Set(deviceIds)
    const tokenIds = (yield* store.devices(userId)).flatMap((row) => (wanted.has(row.deviceId) ? [row.tokenId] : []))
    for (const tokenId of tokenIds) yield* store.revoke(userId, tokenId)
    yield* refuseTokens(tokenIds)
    return tokenIds
  })

  const logoutDevice = Effect.fn("Accounts.logoutDevice")(function* (userId: UserId, deviceId: string) {
    const tokenIds = yield* logoutDevices(userId, [deviceId])
    return tokenIds.length === 0 ? yield* new NotFound({ error: "There is no such device" }) : tokenIds
  })

  const renameDevice = Effect.fn("Accounts.renameDevice")(function* (
    userId: UserId,
    deviceId: string,
    name: string | undefined
  ) {
    const renamed = yield* store.renameDevice(userId, deviceId, name?.slice(0, maxDeviceNameLength))
    if (!renamed) return yield* new NotFound({ error: "There is no such device" })
  })

  const devicesOf = (userId: UserId) =>
    Effect.map(store.devices(userId), (rows) =>
      rows.map(
        ({ deviceId, lastSeenAddress, lastUsedAt, name }): Device => ({
          device_id: deviceId,
          last_seen_ts: lastUsedAt,
          ...(lastSeenAddress === undefined ? {} : { last_seen_ip: lastSeenAddress }),
          ...(name === undefined ? {} : { display_name: name })
        })
      )
    )

  return {
    devicesOf,
    logout,
    logoutAll,
    logoutDevice,
    logoutDevices,
    logoutOthers,
    renameDevice,
    revokeAll,
    revokeSecret
  }
})
