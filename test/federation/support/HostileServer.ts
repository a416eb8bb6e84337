/**
 * A hostile home server, played by the test: it listens with TLS, publishes its keys, joins rooms by the handshake, and sends events that
 * the test makes up, in its own name or in that of others. It uses one of the two dialects of federation, and answers M_UNRECOGNIZED to
 * the other.
 */
import { randomBytes } from "node:crypto"
import type { IncomingMessage } from "node:http"
import { createServer, request as httpsRequest, type Server } from "node:https"
import { authorizationOf, type RequestHead } from "@greenroom/actors/federation/RequestSigning"
import { makeKeyObject } from "@greenroom/actors/federation/ServerKeyObject"
import { tlsCredentials } from "@greenroom/gateway/federation/TlsCredentials"
import { listen } from "@greenroom/gateway/NodeServer"
import type { Event } from "@greenroom/protocol/Event"
import { federationPrefix } from "@greenroom/protocol/federation/FederationApi"
import { keyPath } from "@greenroom/protocol/federation/KeyApi"
import { type EventId, localpartOf, ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import { encodeOrThrow } from "@greenroom/room/CanonicalJson"
import { contentHash } from "@greenroom/room/ContentHash"
import { type EventProposal, type RoomVersion, type StateLookup, stateKeyOf } from "@greenroom/room/RoomVersion"
import { defaultRoomVersion, roomVersion } from "@greenroom/room/RoomVersions"
import { generateSigningKey, type SigningKey, verifyKeyOf } from "@greenroom/room/Signing"
import { stableVersions } from "@greenroom/room/StableVersions"
import { Effect, Result, type Scope } from "effect"
import type { Body } from "../../support/Curl.ts"
import * as GatewayProcess from "../../support/GatewayProcess.ts"

/** The address of another server. */
export interface Address {
  readonly serverName: ServerName
  readonly federationPort: number
}

export interface FederationAnswer {
  readonly status: number
  readonly body: Body
}

/** An answer with its text. */
export interface ReceivedAnswer extends FederationAnswer {
  readonly text: string
}

/** Answers the requests to the hostile server; "never" leaves a request without an answer. */
export type Responder = (request: {
  readonly method: string
  readonly path: string
  readonly body: Body
}) => FederationAnswer | "never"

/** The answer of a server that does not have what was requested. */
export const notFound: FederationAnswer = { status: 404, body: { errcode: "M_NOT_FOUND", error: "Nothing here" } }

/** A room as the hostile server knows it since its join. */
export interface HostileRoom {
  readonly roomId: string
  /** The draft's version, if absent. */
  readonly version?: RoomVersion
  readonly state: Map<string, Event>
  /** The events that its next event follows. */
  extremities: ReadonlyArray<Pick<Event, "event_id" | "depth">>
}

/** Replaces the position in the event graph that an honest server would use. */
export interface GraphOverrides {
  readonly prevEvents?: ReadonlyArray<Pick<Event, "event_id" | "depth">>
  /** State events that replace those of the room, by type and state key. */
  readonly state?: ReadonlyArray<Event>
}

const lookupIn =
  (room: HostileRoom, overrides: ReadonlyArray<Event> = []): StateLookup =>
  (type, stateKey) =>
    overrides.find((event) => event.type === type && event.state_key === stateKey) ??
    room.state.get(stateKeyOf(type, stateKey))

const readAll = (version: RoomVersion, pdus: ReadonlyArray<unknown>): ReadonlyArray<Event> =>
  pdus.map((pdu) => Result.getOrThrow(version.fromPdu(pdu)))

/** The dialects of federation. */
export type Dialect = "draft" | "today"

/** The prefix of the API of policy servers, which `Responder` gets with the whole path. */
export const policyPath = "/_matrix/policy/"

/** The prefix of a dialect. Paths of today's begin with the version of the endpoint: `/v1/send/...`. */
const prefixOf = (dialect: Dialect): string => (dialect === "draft" ? federationPrefix : "/_matrix/federation")

const sendPathOf = (dialect: Dialect): string => (dialect === "draft" ? "/send/" : "/v1/send/")

export class HostileServer {
  readonly serverName: ServerName
  readonly key: SigningKey
  readonly dialect: Dialect
  /** The PDUs that it received, in the order of their arrival. */
  readonly received: Array<Event> = []
  /** The EDUs that it received. */
  readonly receivedEdus: Array<Body> = []
  /** The paths of the requests other than transactions, without the prefix. */
  readonly asked: Array<string> = []
  /** How it answers these requests. */
  respond: Responder = () => notFound
  /** Whether it answers transactions. */
  answersTransactions = true
  private readonly versions = new Map<string, RoomVersion>()
  private transactions = 0
  private waiting: Array<() => void> = []
  private unanswered: Array<IncomingMessage> = []

  constructor(name: string, dialect: Dialect = "draft") {
    this.serverName = ServerName.make(name)
    this.dialect = dialect
    this.key = generateSigningKey(this.serverName, "ed25519:hostile")
  }

  listen(port: number): Effect.Effect<void, never, Scope.Scope> {
    return Effect.gen({ self: this }, function* () {
      const dataDir = yield* GatewayProcess.temporaryDirectory
      const credentials = yield* Effect.orDie(tlsCredentials({ serverName: this.serverName, dataDir }))
      const server = createServer(credentials)
      this.answerTo(server)
      yield* Effect.orDie(listen(server, { host: "127.0.0.1", port }))
    })
  }

  private answerTo(server: Server): void {
    server.on("request", (request, response) => {
      const parts: Array<Buffer> = []
      request.on("error", () => {})
      request.on("data", (part: Buffer) => parts.push(part))
      request.on("end", () => {
        const text = Buffer.concat(parts).toString()
        const answer = this.answer(request.method ?? "", request.url ?? "", text === "" ? undefined : JSON.parse(text))
        if (answer === "never") this.unanswered.push(request)
        else response.writeHead(answer.status).end(JSON.stringify(answer.body))
      })
    })
  }

  private answer(method: string, url: string, body: Body): FederationAnswer | "never" {
    if (url.startsWith(keyPath)) return { status: 200, body: this.keyObject() }
    if (url.startsWith(policyPath)) return this.respond({ method, path: url, body })
    const prefix = prefixOf(this.dialect)
    if (!url.startsWith(prefix)) {
      return { status: 404, body: { errcode: "M_UNRECOGNIZED", error: "There is no such endpoint" } }
    }
    const path = decodeURIComponent(url.slice(prefix.length))
    if (!path.startsWith(sendPathOf(this.dialect))) {
      this.asked.push(path)
      return this.respond({ method, path, body })
    }
    for (const pdu of body.pdus ?? []) {
      const event = this.versionOf(pdu.context ?? pdu.room_id).fromPdu(pdu)
      if (Result.isSuccess(event)) this.received.push(event.success)
    }
    this.receivedEdus.push(...(body.edus ?? []))
    for (const wake of this.waiting.splice(0)) wake()
    return this.answersTransactions ? { status: 200, body: { pdus: {} } } : "never"
  }

  /** Closes the connections of the requests that it has not answered. */
  hangUp(): void {
    for (const request of this.unanswered.splice(0)) request.socket.destroy()
  }

  private versionOf(roomId: string): RoomVersion {
    return this.versions.get(roomId) ?? defaultRoomVersion
  }

  /** Sets the version by which it reads and writes the events of a room. */
  useVersion(roomId: string, id: string): RoomVersion {
    const version = roomVersion(id)!
    this.versions.set(roomId, version)
    return version
  }

  /** The PDU of an event. */
  toPdu(event: Event): Body {
    return this.versionOf(event.room_id).toPdu(event)
  }

  private keyObject(): Body {
    const published = { keyId: this.key.keyId, publicKey: verifyKeyOf(this.key), expiredAt: undefined }
    return makeKeyObject(this.serverName, this.key, [published], Date.now())
  }

  /** Waits until it has received a PDU that matches. */
  receives(matches: (event: Event) => boolean): Effect.Effect<Event> {
    return Effect.suspend(() => {
      const found = this.received.find(matches)
      if (found !== undefined) return Effect.succeed(found)
      return Effect.andThen(
        Effect.callback<void>((resume) => {
          this.waiting.push(() => resume(Effect.void))
        }),
        this.receives(matches)
      )
    })
  }

  /** Sends a request with the signature of this server, or with another Authorization header. */
  ask(
    server: Address,
    method: "GET" | "PUT" | "POST",
    path: string,
    content?: Body,
    overrides: { readonly head?: Partial<RequestHead>; readonly authorization?: string; readonly raw?: string } = {}
  ): Effect.Effect<ReceivedAnswer> {
    return Effect.gen({ self: this }, function* () {
      const uri = prefixOf(this.dialect) + path
      const text = overrides.raw ?? (content === undefined ? undefined : encodeOrThrow(content))
      const bytes = text === undefined ? undefined : Buffer.from(text)
      const head = { method, uri, origin: this.serverName, destination: server.serverName, ...overrides.head }
      const authorization = overrides.authorization ?? (yield* authorizationOf(head, bytes, this.key))
      return yield* Effect.callback<ReceivedAnswer>((resume) => {
        const request = httpsRequest(
          {
            host: "127.0.0.1",
            port: server.federationPort,
            method,
            path: uri,
            rejectUnauthorized: false,
            headers: { ...(authorization === "" ? {} : { authorization }), "content-length": bytes?.length ?? 0 }
          },
          (response) => {
            const parts: Array<Buffer> = []
            response.on("data", (part: Buffer) => parts.push(part))
            response.on("end", () => {
              const text = Buffer.concat(parts).toString()
              resume(Effect.succeed({ status: response.statusCode ?? 0, text, body: JSON.parse(text || "{}") }))
            })
          }
        )
        request.on("error", (error) => resume(Effect.die(error)))
        request.end(bytes)
      })
    })
  }

  /** Sends PDUs unchanged in a transaction. Returns the answers by event ID. */
  send(
    server: Address,
    pdus: ReadonlyArray<Body>,
    options: { readonly transactionId?: string; readonly edus?: ReadonlyArray<Body> } = {}
  ): Effect.Effect<FederationAnswer> {
    const { edus = [], transactionId = `transaction${++this.transactions}` } = options
    const now = Date.now()
    const times = this.dialect === "draft" ? { destination: server.serverName, ts: now } : { origin_server_ts: now }
    const transaction = { origin: this.serverName, ...times, pdus, edus }
    // JSON instead of canonical JSON, which some events of tests do not have.
    return this.ask(server, "PUT", `${sendPathOf(this.dialect)}${transactionId}`, undefined, {
      raw: JSON.stringify(transaction)
    })
  }

  /** Sends events in a transaction. Returns the error for each, undefined for accepted ones. */
  tell(server: Address, ...events: ReadonlyArray<Event>): Effect.Effect<ReadonlyArray<string | undefined>> {
    const pdus = events.map((event) => this.toPdu(event))
    return Effect.map(this.send(server, pdus), ({ body }) =>
      events.map((event) => {
        const inDraft = `${localpartOf(event.event_id)},${event.origin}`
        const answer = body.pdus[this.dialect === "draft" ? inDraft : event.event_id]
        return answer === undefined ? "not answered" : answer.error
      })
    )
  }

  /** Joins a room of the server by the handshake. */
  join(server: Address, roomId: string, user: string): Effect.Effect<HostileRoom> {
    return Effect.gen({ self: this }, function* () {
      const [make, send, query] =
        this.dialect === "draft"
          ? ["/make_join", "/send_join", ""]
          : [
              "/v1/make_join",
              "/v2/send_join",
              `?${stableVersions.map((stableVersion) => `ver=${stableVersion}`).join("&")}`
            ]
      const room = encodeURIComponent(roomId)
      const made = yield* this.ask(server, "GET", `${make}/${room}/${encodeURIComponent(user)}${query}`)
      if (made.status !== 200) return yield* Effect.die(new Error(JSON.stringify(made)))
      const version = this.useVersion(roomId, made.body.room_version)
      const join = Result.getOrThrow(version.complete(made.body.event, this.key, Date.now()))
      const id = this.dialect === "draft" ? localpartOf(join.event_id) : join.event_id
      const sent = yield* this.ask(server, "PUT", `${send}/${room}/${encodeURIComponent(id)}`, version.toPdu(join))
      if (sent.status !== 200) return yield* Effect.die(new Error(JSON.stringify(sent)))
      const taken = [...readAll(version, sent.body.state), join]
      const state = new Map(taken.map((event) => [stateKeyOf(event.type, event.state_key ?? ""), event]))
      return { roomId, version, state, extremities: [join] }
    })
  }

  /** An event of a room, by default a message, signed by this server. */
  event(
    room: HostileRoom,
    proposal: Partial<Omit<EventProposal, "sender">> & { readonly sender: string },
    overrides: GraphOverrides = {}
  ): Event {
    const whole = {
      type: "m.room.message",
      content: { msgtype: "m.text", body: "a message" },
      ...proposal,
      room_id: room.roomId,
      sender: proposal.sender as UserId
    } as EventProposal
    const position = {
      prevEvents: overrides.prevEvents ?? room.extremities,
      state: lookupIn(room, overrides.state),
      now: Date.now()
    }
    return (room.version ?? defaultRoomVersion).build(whole, position, this.key)
  }

  /** The event with changed keys, signed again by this server in the name of its origin. */
  forge(event: Event, changes: Body): Event {
    const altered = { ...event, ...changes } as Event
    const signed = this.versionOf(event.room_id).sign(altered, this.key)
    return { ...altered, signatures: { [event.origin]: signed.signatures[this.serverName]! } }
  }

  /**
   * The event with changed keys of its PDU, and with the matching hash and ID. It is signed with the key of this server, in its own name
   * and in the names of `signers`. For room versions from 3.
   */
  remake(event: Event, changes: Body, signers: ReadonlyArray<string> = []): Event {
    const version = this.versionOf(event.room_id)
    const { hashes: _, signatures: __, ...pdu } = version.toPdu(event)
    const made = Result.getOrThrow(version.complete({ ...pdu, ...changes }, this.key, Date.now()))
    const own = made.signatures[this.serverName]!
    return { ...made, signatures: Object.fromEntries([this.serverName, ...signers].map((name) => [name, own])) }
  }

  /** An event of version 1 or 2 with another ID, hashed and signed with it. */
  rename(event: Event, event_id: EventId): Event {
    const version = this.versionOf(event.room_id)
    const renamed: Event = { ...event, event_id, signatures: {} }
    const sha256 = contentHash(version.toPdu(renamed))
    return version.sign({ ...renamed, hashes: { sha256 } }, this.key)
  }
}

/** A predecessor that does not exist, of the draft's version. */
export const imagined = (serverName: string, depth = 1000): Pick<Event, "event_id" | "depth"> => ({
  event_id: `$nothing${Math.random().toString(36).slice(2)}:${serverName}` as EventId,
  depth
})

/** A predecessor that does not exist, of versions in which event IDs are hashes. */
export const imaginedHash = (depth = 1000): Pick<Event, "event_id" | "depth"> => ({
  event_id: `$${randomBytes(32).toString("base64url")}` as EventId,
  depth
})
