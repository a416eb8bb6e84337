/**
 * Whether this server is a policy server, and by which rules it judges. Read once, at the start.
 */
import type { RoomId } from "@greenroom/protocol/Identifiers"
import { Context } from "effect"
import type { PolicyRule } from "./PolicyRules.ts"

/** The settings of a policy server. */
export interface PolicyOptions {
  /** The rules, in their order (default: none, and this server is no policy server). */
  readonly rules?: ReadonlyArray<PolicyRule>
  /** Rooms of this server whose m.policy.rule.* ban users, servers and rooms: moderation policy lists (default: none). */
  readonly lists?: ReadonlyArray<RoomId>
}

/** The settings of a policy server, for the services that read them. */
export const PolicyConfig = Context.Reference<PolicyOptions>("greenroom/actors/PolicyConfig", {
  defaultValue: () => ({})
})
