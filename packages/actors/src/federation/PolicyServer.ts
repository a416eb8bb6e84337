/**
 * This server as the policy server of rooms whose m.room.policy names it: it signs the events that its rules let pass. The
 * sender's server, or any other that has the event, asks for it.
 *
 * An event is judged once, by one node: repeated requests get the same answer, so that a retry does not count as a flood.
 *
 * Source: "Policy servers" of the server-server specification, `POST /_matrix/policy/v1/sign`.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isRoomId, type RoomId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, Forbidden, type MatrixError, NotFound, Unrecognized } from "@greenroom/protocol/MatrixError"
import { needsRecommendation, policyIn, policyKeyId, policyTypes } from "@greenroom/room/RoomPolicy"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { encodeBase64, exportVerifyKey, type SigningKey, verifyKeyOf } from "@greenroom/room/Signing"
import { setNewest } from "@greenroom/store/BoundedMap"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { PolicyKeyStore } from "@greenroom/store/PolicyKeyStore"
import { PolicyVerdictStore } from "@greenroom/store/PolicyVerdictStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { type StateKey, type StateSelection, StateStore } from "@greenroom/store/StateStore"
import { Clock, Context, Effect, Layer, Option, Result } from "effect"
import { PolicyConfig } from "../policy/PolicyConfig.ts"
import { firstRefusal, type ListedRule, policyLists, textOf } from "../policy/PolicyRules.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { PduVerification, problemText } from "./PduVerification.ts"

/** The number of senders whose last events are remembered, and the number of events of each. */
const rememberedSenders = 10_000
const rememberedTimes = 200
/** How long policy lists are served from memory. */
const listsFreshness = "1 minute"

const ruleTypes = ["m.policy.rule.user", "m.policy.rule.server", "m.policy.rule.room"] as const
/** The recommendations that keep somebody out. A takedown also removes what they have sent, which a policy server cannot do. */
const bans: ReadonlySet<unknown> = new Set([
  "m.ban",
  "org.matrix.mjolnir.ban",
  "m.takedown",
  "org.matrix.msc4204.takedown"
])

/** Moderation bots hide the names of takedowns, which may be abusive, behind a hash (MSC4205). */
const hashIn = (content: JsonObject): unknown => {
  const hashes = content.hashes ?? content["org.matrix.msc4205.hashes"]
  return isJsonObject(hashes) ? hashes.sha256 : undefined
}

const listedRule = ({ content, type }: Event): ReadonlyArray<ListedRule> => {
  const { entity, reason, recommendation } = content
  if (!bans.has(recommendation)) return []
  const kind = type.slice("m.policy.rule.".length) as ListedRule["kind"]
  const rule = { kind, reason: typeof reason === "string" ? reason : "" }
  if (typeof entity === "string") return [{ ...rule, entity }]
  const sha256 = hashIn(content)
  return typeof sha256 === "string" ? [{ ...rule, entity: "", sha256 }] : []
}

const unprotected = new NotFound({ error: "This server is not the policy server of the room" })
const unrecognized = new Unrecognized({ error: "This server is no policy server" })

const make = Effect.gen(function* () {
  const { serverName } = yield* HomeServerConfig
  const options = yield* PolicyConfig
  const lists = options.lists ?? []
  const rules = [...(lists.length > 0 ? [policyLists] : []), ...(options.rules ?? [])]
  const rooms = yield* RoomStore
  const states = yield* StateStore
  const verdicts = yield* PolicyVerdictStore
  const verification = yield* PduVerification
  const key: SigningKey | undefined = rules.length === 0 ? undefined : yield* (yield* PolicyKeyStore).key
  const publicKey = key === undefined ? undefined : encodeBase64(exportVerifyKey(verifyKeyOf(key)))

  /** Events of the current state of a room; none if this server does not take part in it. */
  const stateOf = (roomId: RoomId, only: StateSelection) =>
    Effect.map(states.readCurrent(roomId, only), (entries) => entries.map(({ event }) => event))

  const readLists = Effect.forEach(lists, (roomId) =>
    Effect.map(stateOf(roomId, { types: ruleTypes }), (events) => events.flatMap(listedRule))
  ).pipe(Effect.map((found) => found.flat()))
  const listed = yield* MonotonicCache.make({ lookup: () => readLists, capacity: 1, timeToLive: listsFreshness })

  /** Fails with M_NOT_FOUND if another server, or none, is the policy server of the room. */
  const requirePolicy = Effect.fnUntraced(function* (roomId: RoomId) {
    const keys = policyTypes.map((type): StateKey => [type, ""])
    const state = yield* stateOf(roomId, { keys })
    const policy = policyIn(
      (type) => state.find((event) => event.type === type),
      (server) => server === serverName
    )
    const named = policy?.keys.get(policyKeyId)
    if (named === undefined || encodeBase64(exportVerifyKey(named)) !== publicKey) return yield* unprotected
  })

  /** When senders wrote, by room and user, in ms. */
  const written = new Map<string, ReadonlyArray<number>>()

  const note = (event: Event, now: number) => {
    const name = `${event.room_id} ${event.sender}`
    const times = [...(written.get(name) ?? []), now].slice(-rememberedTimes)
    setNewest(written, name, times, rememberedSenders)
    return (ms: number) => times.filter((at) => at > now - ms).length
  }

  /** The reason why an event is refused; undefined if it passes. */
  const judge = Effect.fnUntraced(function* (event: Event) {
    const earlier = yield* verdicts.find(event.event_id)
    if (earlier !== undefined) return earlier.refusal
    const now = yield* Clock.currentTimeMillis
    const [member] = yield* stateOf(event.room_id, { key: ["m.room.member", event.sender] })
    const joinedAt = member?.content.membership === "join" ? member.origin_server_ts : undefined
    const question = {
      event,
      text: textOf(event),
      now,
      joinedAt,
      recentEvents: note(event, now),
      lists: yield* MonotonicCache.get(listed, "all")
    }
    return (yield* verdicts.add(event.event_id, { refusal: firstRefusal(rules, question) })).refusal
  })

  const sign = Effect.fn("PolicyServer.sign")(function* (pdu: JsonObject): Effect.fn.Return<JsonObject, MatrixError> {
    if (key === undefined) return yield* unrecognized
    const roomId = pdu.room_id
    if (!isRoomId(roomId)) return yield* new BadJson({ error: "room_id: expected a room ID" })
    const id = yield* rooms.version(roomId)
    const version = Option.isSome(id) ? roomVersion(id.value) : undefined
    if (version === undefined) return yield* unprotected
    yield* requirePolicy(roomId)
    const [verified] = yield* verification.verifyPdus(version, [pdu])
    const event = yield* Effect.fromResult(
      Result.mapError(verified!, (problem) => new BadJson({ error: problemText(problem) }))
    )
    if (!needsRecommendation(event)) return yield* new BadJson({ error: "m.room.policy itself is not signed" })
    const refusal = yield* judge(event)
    if (refusal !== undefined) return yield* new Forbidden({ error: refusal })
    return { ...version.sign({ ...event, signatures: {} }, key).signatures[serverName]! }
  })

  return PolicyServer.of({ publicKey: Option.fromUndefinedOr(publicKey), sign })
})

/** Signs the events that the rules of this policy server allow. */
export class PolicyServer extends Context.Service<
  PolicyServer,
  {
    /** The key that m.room.policy names, in unpadded base64; none if this server is no policy server. */
    readonly publicKey: Option.Option<string>
    /**
     * Signs a PDU whose sender's server has signed it: the signature by `ed25519:policy_server`. Errors: M_FORBIDDEN with
     * the reason of the rule that refuses, M_NOT_FOUND if the room has another policy server, M_BAD_JSON.
     */
    readonly sign: (pdu: JsonObject) => Effect.Effect<JsonObject, MatrixError>
  }
>()("greenroom/actors/PolicyServer") {
  static readonly layer = Layer.effect(PolicyServer, make)
}
