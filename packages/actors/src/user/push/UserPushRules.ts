/**
 * The push rules of users: read, changed, and kept. Only the user's changes of the defaults are stored; the whole ruleset is
 * account data `m.push_rules`, which clients receive by sync.
 *
 * Source: "Push Rules: API" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { type MatrixError, NotFound, UserLimitExceeded } from "@greenroom/protocol/MatrixError"
import { ClientSettingsStore } from "@greenroom/store/ClientSettingsStore"
import { EventLog } from "@greenroom/store/EventLog"
import { Context, Effect, Layer, Option, type Result } from "effect"
import { SessionRevocations } from "../../runtime/SessionRevocations.ts"
import type { PushAction, PushRule, PushRuleKind, PushRuleset } from "./PushRule.ts"
import {
  changeRule,
  deleteRule,
  maxPushRuleText,
  type NewPushRule,
  noSettings,
  type PushRuleSettings,
  putRule,
  rulesetOf
} from "./PushRules.ts"

/** The content of `m.push_rules`. */
export const pushRulesContent = (ruleset: PushRuleset): JsonObject => ({ global: ruleset as unknown as JsonObject })

const make = Effect.gen(function* () {
  const store = yield* ClientSettingsStore
  const log = yield* EventLog
  const { followedEverywhere } = yield* SessionRevocations

  const settingsOf = (userId: UserId) =>
    Effect.map(store.pushRules(userId), (found) => ({
      stored: Option.getOrUndefined(found),
      settings: Option.getOrElse(found, () => noSettings as unknown as JsonObject) as unknown as PushRuleSettings
    }))

  const ruleset = (userId: UserId) => Effect.map(settingsOf(userId), ({ settings }) => rulesetOf(settings, userId))

  /**
   * Changes the settings; they apply to all later events, at whatever node. Of two concurrent changes, the slower one is made again
   * on the result of the faster one.
   */
  const change = (
    userId: UserId,
    by: (settings: PushRuleSettings) => Result.Result<PushRuleSettings, MatrixError>
  ): Effect.Effect<void, MatrixError> =>
    Effect.gen(function* () {
      const { settings, stored } = yield* settingsOf(userId)
      const changed = yield* Effect.fromResult(by(settings))
      if (JSON.stringify(changed).length > maxPushRuleText) {
        return yield* new UserLimitExceeded({ error: "The push rules of a user are too long" })
      }
      const content = pushRulesContent(rulesetOf(changed, userId))
      return yield* store.setPushRules(userId, stored, changed as unknown as JsonObject, content)
    }).pipe(
      Effect.repeat({ until: (xid) => xid !== undefined }),
      Effect.flatMap((xid) => {
        log.committed(xid!)
        return followedEverywhere
      })
    )

  const rule = Effect.fn("UserPushRules.rule")(function* (userId: UserId, kind: PushRuleKind, ruleId: string) {
    const found = (yield* ruleset(userId))[kind].find((candidate) => candidate.rule_id === ruleId)
    return found ?? (yield* new NotFound({ error: "There is no such push rule" }))
  })

  return UserPushRules.of({
    ruleset,
    rule,
    put: (userId, kind, ruleId, made) => change(userId, (settings) => putRule(settings, kind, ruleId, made)),
    delete: (userId, kind, ruleId) => change(userId, (settings) => deleteRule(settings, kind, ruleId)),
    change: (userId, kind, ruleId, changes) =>
      change(userId, (settings) => changeRule(settings, userId, kind, ruleId, changes))
  })
})

/** The push rules of users. */
export class UserPushRules extends Context.Service<
  UserPushRules,
  {
    /** The push rules of a user: the default ones and their own. */
    readonly ruleset: (userId: UserId) => Effect.Effect<PushRuleset>
    /** Errors: M_NOT_FOUND. */
    readonly rule: (userId: UserId, kind: PushRuleKind, ruleId: string) => Effect.Effect<PushRule, MatrixError>
    /** Errors: M_INVALID_PARAM, M_UNKNOWN, M_USER_LIMIT_EXCEEDED. */
    readonly put: (
      userId: UserId,
      kind: PushRuleKind,
      ruleId: string,
      rule: NewPushRule
    ) => Effect.Effect<void, MatrixError>
    /** Errors: M_NOT_FOUND. */
    readonly delete: (userId: UserId, kind: PushRuleKind, ruleId: string) => Effect.Effect<void, MatrixError>
    /** Errors: M_NOT_FOUND, M_UNKNOWN, M_USER_LIMIT_EXCEEDED. */
    readonly change: (
      userId: UserId,
      kind: PushRuleKind,
      ruleId: string,
      changes: { readonly enabled?: boolean; readonly actions?: ReadonlyArray<PushAction> }
    ) => Effect.Effect<void, MatrixError>
  }
>()("greenroom/actors/UserPushRules") {
  static readonly layer = Layer.effect(UserPushRules, make)
}
