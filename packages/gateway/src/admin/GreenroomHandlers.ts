/**
 * The audit log, bans, and exports of the data of users.
 */
import { Accounts } from "@greenroom/actors/account/Accounts"
import { Administration } from "@greenroom/actors/account/Administration"
import { AuditLog } from "@greenroom/actors/admin/AuditLog"
import { UserExports } from "@greenroom/actors/admin/UserExports"
import { Bans, banProblem } from "@greenroom/actors/runtime/Bans"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { GreenroomAdminApi } from "@greenroom/protocol/admin/GreenroomAdminApi"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, InvalidParam, NotFound } from "@greenroom/protocol/MatrixError"
import { Context, Effect, type Stream } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { Sockets } from "../socket/Sockets.ts"
import { makeAdminActions, nextOf, pageOf, withoutUndefined } from "./AdminAction.ts"

const defaultPage = 100
const maxPage = 1_000

export const auditHandlers = HttpApiBuilder.group(GreenroomAdminApi, "greenroomAdmin.audit", (handlers) =>
  withServices(function* () {
    const { asAdmin } = yield* makeAdminActions
    const audit = yield* AuditLog
    return handlers
      .handle("list", ({ query }) =>
        asAdmin({ action: "audit.read", details: { ...query } }, () =>
          Effect.map(audit.list({ ...query, limit: Math.min(query.limit ?? defaultPage, maxPage) }), (entries) => ({
            entries: entries.map(withoutUndefined),
            ...(entries.length > 0 && entries.at(-1)!.seq > 1 ? { next: entries.at(-1)!.seq } : {})
          }))
        )
      )
      .handle("verify", () =>
        asAdmin({ action: "audit.verify" }, () => Effect.map(audit.verify(), (verdict) => ({ ...verdict })))
      )
  })
)

export const banHandlers = HttpApiBuilder.group(GreenroomAdminApi, "greenroomAdmin.bans", (handlers) =>
  withServices(function* () {
    const { asAdmin } = yield* makeAdminActions
    const { serverName } = yield* HomeServerConfig
    const accounts = yield* Accounts
    const bans = yield* Bans
    const sockets = yield* Sockets
    const endSessions = (userId: UserId) =>
      serverNameOf(userId) === serverName
        ? Effect.andThen(accounts.logoutAll({ userId, tokenId: 0, deviceId: "" }), sockets.closeUser(userId))
        : Effect.void
    return handlers
      .handle("list", () =>
        asAdmin({ action: "ban.list" }, () =>
          Effect.map(bans.list, (found) => ({
            bans: found.map(({ bannedAt, bannedBy, kind, reason, value }) => ({
              kind,
              value,
              reason,
              banned_by: bannedBy,
              banned_ts: bannedAt
            }))
          }))
        )
      )
      .handle("ban", ({ params: { kind, value }, payload: { reason } }) =>
        asAdmin({ action: `ban.${kind}`, target: value, reason }, (admin) =>
          Effect.gen(function* () {
            const problem = banProblem(kind, value)
            if (problem !== undefined) return yield* new InvalidParam({ error: `value: ${problem}` })
            if (value === admin || value.toLowerCase() === serverName) {
              return yield* new Forbidden({ error: "You cannot ban yourself, nor this server" })
            }
            yield* bans.add({ kind, value, reason, bannedBy: admin })
            if (kind === "user") yield* endSessions(value as UserId)
            return {}
          })
        )
      )
      .handle("lift", ({ params: { kind, value } }) =>
        asAdmin({ action: `ban.lift_${kind}`, target: value }, () =>
          Effect.flatMap(bans.lift(kind, value), (lifted) =>
            lifted ? Effect.succeed({}) : Effect.fail(new NotFound({ error: "There is no such ban" }))
          )
        )
      )
  })
)

export const registrationHandlers = HttpApiBuilder.group(
  GreenroomAdminApi,
  "greenroomAdmin.registrations",
  (handlers) =>
    withServices(function* () {
      const { asAdmin } = yield* makeAdminActions
      const administration = yield* Administration
      return handlers
        .handle("list", () =>
          asAdmin({ action: "registration.list" }, () =>
            Effect.map(administration.waiting, (waiting) => ({
              registrations: waiting.map(({ createdAt, userId }) => ({ user_id: userId, created_ts: createdAt }))
            }))
          )
        )
        .handle("approve", ({ params: { userId }, payload: { reason } }) =>
          asAdmin({ action: "registration.approve", target: userId, reason }, () =>
            Effect.as(administration.approve(userId), {})
          )
        )
        .handle("reject", ({ params: { userId }, payload: { reason } }) =>
          asAdmin({ action: "registration.reject", target: userId, reason }, () =>
            Effect.as(administration.reject(userId), {})
          )
        )
    })
)

export const exportHandlers = HttpApiBuilder.group(GreenroomAdminApi, "greenroomAdmin.exports", (handlers) =>
  withServices(function* () {
    const { asAdmin, services } = yield* makeAdminActions
    const audit = yield* AuditLog
    const exports = Context.get(services, UserExports)
    /** If the client does not get all of the lines, the audit log says so. */
    const asDownload = (lines: Stream.Stream<Uint8Array>) =>
      Effect.map(audit.following(lines), (followed) =>
        HttpServerResponse.stream(followed, {
          contentType: "application/jsonl",
          headers: { "content-disposition": 'attachment; filename="export.jsonl"', "cache-control": "no-store" }
        })
      )
    type Export = Effect.Success<ReturnType<typeof exports.find>>
    const toExport = (dataExport: Export): JsonObject =>
      withoutUndefined({
        export_id: dataExport.exportId,
        user_id: dataExport.userId,
        requested_by: dataExport.requestedBy,
        reason: dataExport.reason,
        requested_ts: dataExport.requestedAt,
        approved_by: dataExport.approvedBy,
        expires_ts: dataExport.expiresAt
      })
    return handlers
      .handle("own", () =>
        CurrentSession.use(({ userId }) =>
          audit.run(
            { actor: userId, action: "export.own", target: userId },
            Effect.flatMap(exports.own(userId), asDownload)
          )
        )
      )
      .handle("list", ({ query }) =>
        asAdmin({ action: "export.list" }, () => {
          const { from, limit } = pageOf(query, maxPage)
          return Effect.map(exports.list({ from, limit: limit + 1 }), (found) =>
            withoutUndefined({
              exports: found.slice(0, limit).map(toExport),
              next: nextOf(from, limit, from + found.length)
            })
          )
        })
      )
      .handle("request", ({ payload: { reason, user_id } }) =>
        asAdmin({ action: "export.request", target: user_id, reason }, (admin) =>
          Effect.map(exports.request(user_id, admin, reason), ({ expiresAt, exportId }) => ({
            export_id: exportId,
            expires_ts: expiresAt
          }))
        )
      )
      .handle("approve", ({ params: { exportId }, payload: { reason } }) =>
        asAdmin({ action: "export.approve", reason, details: { export_id: exportId } }, (admin) =>
          Effect.map(exports.approve(exportId, admin), toExport)
        )
      )
      .handle("read", ({ params: { exportId } }) =>
        asAdmin({ action: "export.read", details: { export_id: exportId } }, (admin) =>
          Effect.flatMap(exports.read(exportId, admin), asDownload)
        )
      )
  })
)
