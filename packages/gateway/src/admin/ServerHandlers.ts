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
import { InvalidParam } from "@greenroom/protocol/MatrixError"
import { Clock, Context, Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { GatewayVersion } from "../GatewayVersion.ts"
import { flagOf, makeAdminActions, nextOf, orderOf, pageOf, withoutUndefined } from "./AdminAction.ts"
import { pageOfReports } from "./ReportHandlers.ts"

const toToken = (token: RegistrationToken) => ({
  token: token.tokenId,
  uses_allowed: token.usesAllowed ?? null,
  pending: 0,
  completed: token.uses,
  expiry_time: token.expiresAt ?? null
})

const isValid = ({ expiresAt, uses, usesAllowed }: RegistrationToken, now: number): boolean =>
  (usesAllowed === undefined || uses < usesAllowed) && (expiresAt === undefined || expiresAt > now)

const usageOrders = {
  user_id: "user_id",
  displayname: "displayname",
  media_count: "media_count",
  media_length: "media_length"
} as const

/** The default length of a generated secret. */
const secretLength = 16

/** How many secrets to try while they are taken, as short ones may be. */
const tries = 20

const makeSecret = (length: number): string =>
  randomBytes(64).toString("base64url").replaceAll("-", "~").slice(0, length)

/** Milliseconds until a time, undefined for never. Errors: M_INVALID_PARAM for a time that is past. */
const timeUntil = Effect.fnUntraced(function* (time: number | null | undefined) {
  if (time == null) return undefined
  const left = time - (yield* Clock.currentTimeMillis)
  return left > 0 ? left : yield* new InvalidParam({ error: "expiry_time: must not be in the past" })
})

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
            const validFor = yield* timeUntil(payload?.expiry_time)
            const create = (secret: string) =>
              administration.createToken({
                token: Redacted.make(secret),
                uses: payload?.uses_allowed ?? "unlimited",
                validFor
              })
            const { token, tokenId } = yield* payload?.token == null
              ? Effect.retry(
                  Effect.suspend(() => create(makeSecret(payload?.length ?? secretLength))),
                  { times: tries }
                )
              : create(payload.token)
            return {
              ...toToken(yield* administration.token(tokenId)),
              token: Redacted.value(token),
              token_id: tokenId
            }
          })
        )
      )
      .handle("update", ({ params, payload }) =>
        asAdmin({ action: "token.update", details: { ...payload } }, () =>
          Effect.gen(function* () {
            yield* timeUntil(payload.expiry_time)
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

/** A report of a user has fewer fields than one of an event, and another name for the reported user. */
const toUserReport = ({ id, reason, received_ts, reported_user_id, user_id }: JsonObject): JsonObject =>
  withoutUndefined({ id, received_ts, target_user_id: reported_user_id, user_id, reason })

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
          Effect.map(
            pageOfReports(reports, query, { about: "event", reporter: query.user_id, roomId: query.room_id }),
            ({ page, rows }) => ({ event_reports: rows, ...page })
          )
        )
      )
      .handle("report", ({ params: { reportId } }) =>
        asAdmin({ action: "report.show", target: String(reportId) }, () => reports.find(reportId, "event"))
      )
      .handle("deleteReport", ({ params: { reportId } }) =>
        asAdmin({ action: "report.delete", target: String(reportId) }, () =>
          Effect.as(reports.remove(reportId, "event"), {})
        )
      )
      .handle("userReports", ({ query }) =>
        asAdmin({ action: "report.list" }, () =>
          Effect.map(
            pageOfReports(reports, query, { about: "user", reporter: query.user_id, userId: query.target_user_id }),
            ({ page, rows }) => ({ user_reports: rows.map(toUserReport), ...page })
          )
        )
      )
      .handle("userReport", ({ params: { reportId } }) =>
        asAdmin({ action: "report.show", target: String(reportId) }, () =>
          Effect.map(reports.find(reportId, "user"), toUserReport)
        )
      )
      .handle("deleteUserReport", ({ params: { reportId } }) =>
        asAdmin({ action: "report.delete", target: String(reportId) }, () =>
          Effect.as(reports.remove(reportId, "user"), {})
        )
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
            const found = yield* users.mediaUsage({
              ...page,
              orderBy: yield* orderOf(usageOrders, query.order_by ?? "media_length"),
              descending: query.order_by === undefined || page.descending,
              search: query.search_term,
              since: query.from_ts,
              until: query.until_ts
            })
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
