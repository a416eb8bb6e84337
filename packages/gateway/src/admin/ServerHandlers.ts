/**
 * Registration tokens, reports and figures of the server.
 *
 * Source: "Registration Tokens", "Show reported events" and "Statistics" of Synapse's documentation.
 */
import { randomBytes } from "node:crypto"
import { Administration, type RegistrationToken } from "@greenroom/actors/account/Administration"
import { Reports } from "@greenroom/actors/admin/Reports"
import { type Notice, ServerNotices } from "@greenroom/actors/admin/ServerNotices"
import { UserAdministration } from "@greenroom/actors/admin/UserAdministration"
import { SynapseAdminApi } from "@greenroom/protocol/admin/SynapseAdminApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Clock, Context, Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { GatewayVersion } from "../GatewayVersion.ts"
import { flagOf, makeAdminActions, nextOf, pageOf, withoutUndefined } from "./AdminAction.ts"

const toToken = (token: RegistrationToken) => ({
  token: token.tokenId,
  uses_allowed: token.usesAllowed ?? null,
  pending: 0,
  completed: token.uses,
  expiry_time: token.expiresAt ?? null
})

const isValid = ({ expiresAt, uses, usesAllowed }: RegistrationToken, now: number): boolean =>
  (usesAllowed === undefined || uses < usesAllowed) && (expiresAt === undefined || expiresAt > now)

export const tokenHandlers = HttpApiBuilder.group(SynapseAdminApi, "synapseAdmin.tokens", (handlers) =>
  withServices(function* () {
    const { asAdmin } = yield* makeAdminActions
    const administration = yield* Administration
    return handlers
      .handle("list", ({ query }) =>
        asAdmin({ action: "token.list" }, () =>
          Effect.gen(function* () {
            const now = yield* Clock.currentTimeMillis
            const wanted = flagOf(query.valid)
            const tokens = (yield* administration.tokens).filter(
              (token) => wanted === undefined || isValid(token, now) === wanted
            )
            return { registration_tokens: tokens.map(toToken) }
          })
        )
      )
      .handle("get", ({ params }) =>
        asAdmin({ action: "token.show" }, () => Effect.map(administration.token(params.token), toToken))
      )
      .handle("create", ({ payload }) =>
        asAdmin({ action: "token.create", details: { uses_allowed: payload?.uses_allowed } }, () =>
          Effect.gen(function* () {
            const length = payload?.length ?? 16
            const secret = payload?.token ?? randomBytes(64).toString("base64url").replaceAll("-", "~").slice(0, length)
            const expiry = payload?.expiry_time ?? undefined
            const { tokenId } = yield* administration.createToken({
              token: Redacted.make(secret),
              uses: payload?.uses_allowed ?? "unlimited",
              validFor: expiry === undefined ? undefined : expiry - (yield* Clock.currentTimeMillis)
            })
            return { ...toToken(yield* administration.token(tokenId)), token: secret, token_id: tokenId }
          })
        )
      )
      .handle("update", ({ params, payload }) =>
        asAdmin({ action: "token.update", details: { ...payload } }, () =>
          Effect.gen(function* () {
            yield* administration.updateToken(params.token, {
              usesAllowed: payload.uses_allowed,
              expiresAt: payload.expiry_time
            })
            return toToken(yield* administration.token(params.token))
          })
        )
      )
      .handle("delete", ({ params }) =>
        asAdmin({ action: "token.delete" }, () =>
          Effect.flatMap(administration.token(params.token), ({ tokenId }) =>
            Effect.as(administration.removeToken(tokenId), {})
          )
        )
      )
  })
)

const toNotice = (payload: {
  readonly user_id: UserId
  readonly content: JsonObject
  readonly type?: string
  readonly state_key?: string
}): Notice => ({
  userId: payload.user_id,
  type: payload.type,
  stateKey: payload.state_key,
  content: payload.content
})

export const serverHandlers = HttpApiBuilder.group(SynapseAdminApi, "synapseAdmin.server", (handlers) =>
  withServices(function* () {
    const { asAdmin, services } = yield* makeAdminActions
    const version = yield* GatewayVersion
    const users = Context.get(services, UserAdministration)
    const reports = Context.get(services, Reports)
    const notices = Context.get(services, ServerNotices)
    return handlers
      .handle("version", () =>
        asAdmin({ action: "server.version" }, () => Effect.succeed({ server_version: `Greenroom ${version}` }))
      )
      .handle("reports", ({ query }) =>
        asAdmin({ action: "report.list" }, () =>
          Effect.gen(function* () {
            const { descending, from, limit } = pageOf({ dir: "b", ...query })
            const found = yield* reports.page({
              from,
              limit,
              oldestFirst: !descending,
              reporter: query.user_id,
              roomId: query.room_id
            })
            return withoutUndefined({
              event_reports: found.reports,
              total: found.total,
              next_token: nextOf(from, found.reports.length, found.total)
            })
          })
        )
      )
      .handle("report", ({ params: { reportId } }) =>
        asAdmin({ action: "report.show", target: String(reportId) }, () => reports.find(reportId))
      )
      .handle("deleteReport", ({ params: { reportId } }) =>
        asAdmin({ action: "report.delete", target: String(reportId) }, () => Effect.as(reports.remove(reportId), {}))
      )
      .handle("sendNotice", ({ payload }) =>
        asAdmin({ action: "user.notice", target: payload.user_id }, () => notices.send(toNotice(payload)))
      )
      .handle("putNotice", ({ params: { txnId }, payload }) =>
        asAdmin({ action: "user.notice", target: payload.user_id }, (admin) =>
          notices.send({ ...toNotice(payload), txnId: `${admin} ${txnId}` })
        )
      )
      .handle("mediaUsage", ({ query }) =>
        asAdmin({ action: "server.media_usage" }, () =>
          Effect.gen(function* () {
            const page = pageOf(query)
            const found = yield* users.mediaUsage({ ...page, search: query.search_term })
            return withoutUndefined({
              users: found.users.map(({ bytes, count, displayName, userId }) => ({
                user_id: userId,
                displayname: displayName ?? null,
                media_count: count,
                media_length: bytes
              })),
              total: found.total,
              next_token: nextOf(page.from, found.users.length, found.total)
            })
          })
        )
      )
  })
)
