/**
 * The settings of policy servers: requests to those of rooms, and the rules of this server as a policy server. A part of
 * `GatewayConfig`.
 */
import { registerHooks } from "node:module"
import { resolve } from "node:path"
import { pathToFileURL } from "node:url"
import type { PolicyOptions } from "@greenroom/actors/policy/PolicyConfig"
import type { PolicyRule } from "@greenroom/actors/policy/PolicyRules"
import type { HomeServerSettings } from "@greenroom/actors/runtime/HomeServerConfig"
import {
  type Configuration,
  list,
  optional,
  setting,
  Text,
  Truth,
  truthExpects,
  wholeNumber
} from "@greenroom/gateway/Setting"
import { ConfigurationError, refuse } from "@greenroom/gateway/SettingSources"
import type { RoomId } from "@greenroom/protocol/Identifiers"
import * as Effect from "effect/Effect"

export const policySettings = {
  policyRules: optional({
    name: "policy.rules",
    description:
      "The file with the rules by which this server is a policy server: a module that exports a list of rules",
    expects: "a file",
    schema: Text
  }),
  policyLists: setting({
    name: "policy.lists",
    description: "Rooms of this server that are moderation policy lists. As a policy server it follows their bans",
    expects: "a list of room IDs",
    schema: list(/^![^\s,]+$/),
    fallback: [] as ReadonlyArray<string>
  }),
  policyTimeout: setting({
    name: "policy.timeout",
    description: "The time in milliseconds after which a request to the policy server of a room fails",
    ...wholeNumber("a number of milliseconds", 100, 120_000),
    fallback: 10_000
  }),
  policyRetries: setting({
    name: "policy.retries",
    description: "How often a failed request to a policy server is repeated",
    ...wholeNumber("a number", 0, 10),
    fallback: 1
  }),
  policySendAnyway: setting({
    name: "policy.send_anyway",
    description: "Send events without a signature if the policy server of the room does not answer",
    expects: truthExpects,
    schema: Truth,
    fallback: false
  })
} as const

type PolicyConfiguration = Configuration<typeof policySettings>

/** The options of requests to the policy servers of rooms. */
export const toPolicyServers = (config: PolicyConfiguration): NonNullable<HomeServerSettings["policyServers"]> => ({
  timeout: config.policyTimeout,
  retries: config.policyRetries,
  sendAnyway: config.policySendAnyway
})

const isRules = (value: unknown): value is ReadonlyArray<PolicyRule> =>
  Array.isArray(value) && value.every((entry) => typeof entry === "function")

/** Imports a module that may be anywhere: its imports of `@greenroom/...` lead to the modules of this program. */
const importRules = async (file: string): Promise<{ readonly default?: unknown }> => {
  const hooks = registerHooks({
    resolve: (specifier, context, next) =>
      next(specifier, specifier.startsWith("@greenroom/") ? { ...context, parentURL: import.meta.url } : context)
  })
  try {
    return await import(pathToFileURL(resolve(file)).href)
  } finally {
    hooks.deregister()
  }
}

const readRules = Effect.fnUntraced(function* (file: string) {
  const module = yield* Effect.tryPromise({
    try: () => importRules(file),
    catch: (error) => new ConfigurationError({ message: `policy.rules: ${file} cannot be loaded: ${error}` })
  })
  if (isRules(module.default)) return module.default
  return yield* refuse(`policy.rules: the default export of ${file} is not a list of rules`)
})

/** The rules of this server as a policy server, from the file that the setting names. */
export const readPolicy = (config: PolicyConfiguration): Effect.Effect<PolicyOptions, ConfigurationError> =>
  Effect.map(config.policyRules === undefined ? Effect.succeed([]) : readRules(config.policyRules), (rules) => ({
    rules,
    lists: config.policyLists as ReadonlyArray<RoomId>
  }))
