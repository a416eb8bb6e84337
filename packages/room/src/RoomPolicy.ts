/**
 * The policy server of a room: a server that recommends events by its signature. m.room.policy names the server and its
 * key; it is in force while that server has a joined user in the room. m.room.policy itself needs no recommendation, so
 * that a policy server which does not answer can be replaced.
 *
 * Source: "Policy servers" of the client-server and server-server specifications.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isServerName, type ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject } from "@greenroom/protocol/Json"
import { Result } from "effect"
import type { RoomVersion, StateLookup } from "./RoomVersion.ts"
import { decodeBase64, importVerifyKey, type VerifyKeys } from "./Signing.ts"

/** The ID of the key by which policy servers sign. */
export const policyKeyId = "ed25519:policy_server"

/**
 * The state that names the policy server. A room without m.room.policy may have one from before version 1.18 of the specification, which
 * Synapse still follows: without the signature the events of this server would not be shown there.
 */
export const policyTypes = ["m.room.policy", "org.matrix.msc4284.policy"] as const

/** The policy server of a room, and its key. */
export interface RoomPolicy {
  /** The policy server. */
  readonly via: ServerName
  /** Its key by `policyKeyId`; none if the text is no key, so that the policy server recommends nothing. */
  readonly keys: VerifyKeys
}

const read = ({ content, type }: Event): RoomPolicy | undefined => {
  const { public_key, public_keys, via } = content
  const encoded = type === policyTypes[1] ? public_key : isJsonObject(public_keys) ? public_keys.ed25519 : undefined
  if (typeof via !== "string" || !isServerName(via) || typeof encoded !== "string") return undefined
  const bytes = decodeBase64(encoded)
  const key = bytes === undefined ? undefined : Result.getOrUndefined(importVerifyKey(bytes))
  return { via: via as ServerName, keys: new Map(key === undefined ? [] : [[policyKeyId, key]]) }
}

const known = new WeakMap<Event, { readonly policy: RoomPolicy | undefined }>()

/** The content of a policy event, undefined if it is invalid. */
const readOnce = (event: Event): RoomPolicy | undefined => {
  const found = known.get(event) ?? { policy: read(event) }
  known.set(event, found)
  return found.policy
}

/** The policy that is in force in a state. `hasMember`: whether a server has a joined user in the room. */
export const policyIn = (state: StateLookup, hasMember: (server: ServerName) => boolean): RoomPolicy | undefined => {
  const event = state(policyTypes[0], "") ?? state(policyTypes[1], "")
  const policy = event === undefined ? undefined : readOnce(event)
  return policy !== undefined && hasMember(policy.via) ? policy : undefined
}

/** Whether state of this type names a policy server. */
export const isPolicyType = (type: string): boolean => policyTypes.some((policyType) => policyType === type)

/** Whether an event needs the recommendation of a policy server. */
export const needsRecommendation = ({ state_key, type }: Pick<Event, "type" | "state_key">): boolean =>
  !(isPolicyType(type) && state_key === "")

/** Whether the policy server has signed the event. */
export const isRecommended = (version: RoomVersion, event: Event, { keys, via }: RoomPolicy): boolean =>
  version.isSignedBy(event, via, keys)
