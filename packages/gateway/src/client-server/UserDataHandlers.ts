/**
 * Account data, tags, filters, push rules and receipts, as calls of the services of the same names.
 *
 * Source: "Client Config", "Room Tagging", "Filtering", "Push Rules: API" and "Receipts" of the client-server
 * specification.
 */
import { Receipts } from "@greenroom/actors/room/Receipts"
import type { Session } from "@greenroom/actors/runtime/Session"
import { AccountData } from "@greenroom/actors/user/AccountData"
import { isPushRuleKind, type PushRuleKind } from "@greenroom/actors/user/push/PushRule"
import { UserPushRules } from "@greenroom/actors/user/push/UserPushRules"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { Tags } from "@greenroom/protocol/client-server/UserDataApi"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { InvalidParam, type MatrixError, NotFound } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

/** Clients may not PUT the types of account data that the server sets. */
const serverControlled = (error: string) =>
  HttpServerResponse.jsonUnsafe({ errcode: "M_BAD_JSON", error }, { status: 405 })

export const accountDataHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.accountData", (handlers) =>
  withServices(function* () {
    const data = yield* AccountData

    const answered = (change: Effect.Effect<void, MatrixError>) =>
      change.pipe(
        Effect.as(done),
        Effect.catchTag("M_UNRECOGNIZED", ({ error }) => Effect.succeed(serverControlled(error)))
      )

    const set = (userId: UserId, roomId: RoomId | undefined, type: string, content: JsonObject) =>
      CurrentSession.use((session) => answered(data.set(session, userId, roomId, type, content)))

    const remove = (userId: UserId, roomId: RoomId | undefined, type: string) =>
      CurrentSession.use((session) => answered(data.remove(session, userId, roomId, type)))

    return handlers
      .handle("set", ({ params, payload }) => set(params.userId, undefined, params.type, payload))
      .handle("get", ({ params }) =>
        CurrentSession.use((session) => data.get(session, params.userId, undefined, params.type))
      )
      .handle("remove", ({ params }) => remove(params.userId, undefined, params.type))
      .handle("setInRoom", ({ params, payload }) => set(params.userId, params.roomId, params.type, payload))
      .handle("getInRoom", ({ params }) =>
        CurrentSession.use((session) => data.get(session, params.userId, params.roomId, params.type))
      )
      .handle("removeInRoom", ({ params }) => remove(params.userId, params.roomId, params.type))
      .handle("tags", ({ params }) =>
        CurrentSession.use((session) =>
          Effect.map(data.tags(session, params.userId, params.roomId), (tags) => ({ tags: tags as Tags }))
        )
      )
      .handle("setTag", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.as(data.setTag(session, params.userId, params.roomId, params.tag, payload ?? {}), done)
        )
      )
      .handle("removeTag", ({ params }) =>
        CurrentSession.use((session) =>
          Effect.as(data.setTag(session, params.userId, params.roomId, params.tag, undefined), done)
        )
      )
      .handle("addFilter", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.map(data.addFilter(session, params.userId, payload as unknown as JsonObject), (filter_id) => ({
            filter_id
          }))
        )
      )
      .handle("filter", ({ params }) =>
        CurrentSession.use((session) => data.filter(session, params.userId, params.filterId))
      )
  })
)

export const pushRulesHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.pushRules", (handlers) =>
  withServices(function* () {
    const rules = yield* UserPushRules

    const asUser = <A, E>(act: (userId: UserId) => Effect.Effect<A, E>) =>
      CurrentSession.use((session: Session) => act(session.userId))

    /** The rule that a path names. There is no rule of an unknown kind. */
    const ofRule = <A, E>(
      { kind, ruleId }: { readonly kind: string; readonly ruleId: string },
      act: (userId: UserId, kind: PushRuleKind, ruleId: string) => Effect.Effect<A, E>
    ) =>
      isPushRuleKind(kind)
        ? asUser((userId) => act(userId, kind, ruleId))
        : Effect.fail(new NotFound({ error: `There is no push rule of the kind ${kind}` }))

    const ofKind = (kind: string) =>
      isPushRuleKind(kind)
        ? asUser((userId) => Effect.map(rules.ruleset(userId), (ruleset) => ruleset[kind]))
        : Effect.fail(new NotFound({ error: `There are no push rules of the kind ${kind}` }))

    return handlers
      .handle("all", () => asUser((userId) => Effect.map(rules.ruleset(userId), (global) => ({ global }))))
      .handle("global", () => asUser(rules.ruleset))
      .handle("ofKind", ({ params }) => ofKind(params.kind))
      .handle("get", ({ params }) => ofRule(params, rules.rule))
      .handle("put", ({ params, payload, query: { after, before } }) =>
        ofRule(params, (userId, kind, ruleId) =>
          Effect.as(rules.put(userId, kind, ruleId, { ...payload, before, after }), done)
        )
      )
      .handle("delete", ({ params }) => Effect.as(ofRule(params, rules.delete), done))
      .handle("enabled", ({ params }) => Effect.map(ofRule(params, rules.rule), ({ enabled }) => ({ enabled })))
      .handle("setEnabled", ({ params, payload: { enabled } }) =>
        ofRule(params, (userId, kind, ruleId) => Effect.as(rules.change(userId, kind, ruleId, { enabled }), done))
      )
      .handle("actions", ({ params }) => Effect.map(ofRule(params, rules.rule), ({ actions }) => ({ actions })))
      .handle("setActions", ({ params, payload }) =>
        ofRule(params, (userId, kind, ruleId) =>
          Effect.as(rules.change(userId, kind, ruleId, { actions: payload.actions }), done)
        )
      )
  })
)

export const receiptsHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.receipts", (handlers) =>
  withServices(function* () {
    const receipts = yield* Receipts

    const threadOf = (body: JsonObject | null | undefined): Effect.Effect<string | undefined, InvalidParam> => {
      const thread = body?.thread_id
      return thread === undefined || typeof thread === "string"
        ? Effect.succeed(thread)
        : Effect.fail(new InvalidParam({ error: "thread_id: expected a string" }))
    }

    return handlers
      .handle("receipt", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            const { eventId, receiptType, roomId } = params
            const thread = yield* threadOf(payload)
            if (receiptType !== "m.fully_read") {
              yield* receipts.set(session, roomId, receiptType, eventId, thread)
              return done
            }
            if (thread !== undefined) {
              return yield* new InvalidParam({ error: "thread_id: m.fully_read belongs to the whole room" })
            }
            yield* receipts.setFullyRead(session, roomId, eventId)
            return done
          })
        )
      )
      .handle("readMarkers", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.as(
            receipts.setMarkers(session, params.roomId, {
              fullyRead: payload?.["m.fully_read"] ?? undefined,
              read: payload?.["m.read"] ?? undefined,
              privateRead: payload?.["m.read.private"] ?? undefined
            }),
            done
          )
        )
      )
  })
)
