/**
 * The push rules that users made, in memory: read when the node starts, and again after a change in the log. Rulesets
 * are compiled when they are first asked.
 *
 * Source: "Push Rules" of the client-server specification.
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { accountDataChanges } from "@greenroom/store/AccountDataChange"
import { ClientSettingsStore, type StoredPushRules } from "@greenroom/store/ClientSettingsStore"
import { EventLog } from "@greenroom/store/EventLog"
import { rowsOf } from "@greenroom/store/LogKind"
import { Effect, Layer } from "effect"
import { MemberPushRules } from "../../room/MemberPushRules.ts"
import { type CompiledRuleset, compileRuleset, evaluate } from "./PushRuleEvaluation.ts"
import { type PushRuleSettings, rulesetOf } from "./PushRules.ts"

interface Entry {
  readonly sinceXid: number
  readonly settings: string
  compiled: CompiledRuleset | undefined
}

const compiledOf = (userId: UserId, entry: Entry): CompiledRuleset => {
  entry.compiled ??= compileRuleset(
    rulesetOf(JSON.parse(entry.settings) as JsonObject as unknown as PushRuleSettings, userId)
  )
  return entry.compiled
}

const make = Effect.gen(function* () {
  const store = yield* ClientSettingsStore
  const log = yield* EventLog
  const entries = new Map<UserId, Entry>()
  let generation = 0

  const take = (rows: ReadonlyArray<StoredPushRules>) => {
    for (const { settings, sinceXid, userId } of rows) entries.set(userId, { settings, sinceXid, compiled: undefined })
    if (rows.length > 0) generation++
  }

  yield* log.follow((slice) => {
    const changed = rowsOf(slice.rows, accountDataChanges).filter(({ row }) => row.type === "m.push_rules")
    if (changed.length === 0) return Effect.void
    return Effect.map(store.allPushRules([...new Set(changed.map(({ row }) => row.userId))]), take)
  })
  take(yield* store.allPushRules())

  return MemberPushRules.of({
    generation: () => generation,
    has: (userId) => entries.has(userId),
    since: (userId) => entries.get(userId)?.sinceXid,
    evaluate: (userId, context, displayName) => {
      const entry = entries.get(userId)
      if (entry === undefined) return undefined
      const { highlight, notify, text } = evaluate(compiledOf(userId, entry), context, displayName)
      return notify ? { userId, highlight, actions: text } : undefined
    }
  })
})

export const layer = Layer.effect(MemberPushRules, make)
