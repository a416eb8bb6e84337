/**
 * The data of one user as JSON lines: for that user at once; for an operator only under dual control. One administrator asks
 * with a reason, another one approves within a time, and the first can read it for a time. See docs/lawful-access.md.
 *
 * Loaded on first use (`AdminServices`). Whether the caller is an administrator is checked before.
 */
import { randomBytes } from "node:crypto"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, LimitExceeded, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { AccountStore } from "@greenroom/store/AccountStore"
import { type DataExport, UserExportStore } from "@greenroom/store/UserExportStore"
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { sealed } from "./ExportFile.ts"

/** How long an export can be approved, and then be read, in milliseconds. */
const validity = 24 * 3_600_000

const busy = new LimitExceeded({ error: "An export of this user is being made already", retry_after_ms: 5_000 })

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const store = yield* UserExportStore
  const accounts = yield* AccountStore
  const running = new Set<UserId>()

  /** One export of each user at a time, because it reads everything. It begins with the first line that is read: HEAD reads none. */
  const lines = (userId: UserId): Effect.Effect<Stream.Stream<Uint8Array>, LimitExceeded> =>
    Effect.suspend(() => {
      if (running.has(userId)) return Effect.fail(busy)
      return Effect.map(Clock.currentTimeMillis, (created_ts) =>
        Stream.suspend(() => {
          running.add(userId)
          return Stream.ensuring(
            sealed({ server_name: serverName, user_id: userId, created_ts }, store.parts(userId)),
            Effect.sync(() => running.delete(userId))
          )
        })
      )
    })

  const find = Effect.fnUntraced(function* (exportId: string) {
    const found = yield* store.find(exportId)
    if (found === undefined) return yield* new NotFound({ error: "There is no such export" })
    const left = found.expiresAt - (yield* Clock.currentTimeMillis)
    // More is left than there was at first where the clock was set back.
    if (left <= 0 || left > validity) {
      return yield* new Forbidden({ error: "The export has expired: ask for it again" })
    }
    return found
  })

  const request = Effect.fn("UserExports.request")(function* (userId: UserId, by: UserId, reason: string) {
    if (Option.isNone(yield* accounts.find(userId))) {
      return yield* new NotFound({ error: `There is no user ${userId}` })
    }
    const exportId = randomBytes(9).toString("base64url")
    const expiresAt = (yield* Clock.currentTimeMillis) + validity
    yield* store.add({ exportId, userId, requestedBy: by, reason, expiresAt })
    return { exportId, expiresAt }
  })

  const approve = Effect.fn("UserExports.approve")(function* (exportId: string, by: UserId) {
    const found = yield* find(exportId)
    if (found.requestedBy === by) {
      return yield* new Forbidden({ error: "Another administrator than the one who asked must approve the export" })
    }
    const expiresAt = (yield* Clock.currentTimeMillis) + validity
    if (!(yield* store.approve(exportId, by, expiresAt))) {
      return yield* new Forbidden({ error: "The export was approved already" })
    }
    return { ...found, approvedBy: by, expiresAt }
  })

  const read = Effect.fn("UserExports.read")(function* (exportId: string, by: UserId) {
    const found = yield* find(exportId)
    if (found.approvedBy === undefined) {
      return yield* new Forbidden({ error: "Another administrator has to approve the export first" })
    }
    if (found.requestedBy !== by) {
      return yield* new Forbidden({ error: "An export is read by the administrator who asked for it" })
    }
    return yield* lines(found.userId)
  })

  return UserExports.of({ own: lines, request, approve, read, find, list: store.list })
})

/** Exports of the data of a user: for the user, or for administrators under dual control. */
export class UserExports extends Context.Service<
  UserExports,
  {
    /** For the user themselves. Errors: M_LIMIT_EXCEEDED while another one runs. */
    readonly own: (userId: UserId) => Effect.Effect<Stream.Stream<Uint8Array>, MatrixError>
    /** Errors: M_NOT_FOUND. */
    readonly request: (
      userId: UserId,
      by: UserId,
      reason: string
    ) => Effect.Effect<{ readonly exportId: string; readonly expiresAt: number }, MatrixError>
    /** Errors: M_NOT_FOUND; M_FORBIDDEN for the administrator who asked, and after its time. */
    readonly approve: (exportId: string, by: UserId) => Effect.Effect<DataExport, MatrixError>
    /** Errors: M_NOT_FOUND; M_FORBIDDEN before it is approved, after its time, and for others. */
    readonly read: (exportId: string, by: UserId) => Effect.Effect<Stream.Stream<Uint8Array>, MatrixError>
    readonly find: (exportId: string) => Effect.Effect<DataExport, MatrixError>
    readonly list: UserExportStore["Service"]["list"]
  }
>()("greenroom/actors/UserExports") {
  static readonly layer = Layer.effect(UserExports, make)
}
