/**
 * Requests to other home servers about their users and public rooms, and to policy servers.
 *
 * Source: "End-to-End Encryption", "Device Management", "Public Room Directory", "Spaces" and "Policy servers" of the server-server
 * specification.
 */
import type { RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { Effect } from "effect"
import type { PublicRoomsRequest } from "../../room/PublicRooms.ts"
import { answerLimits, shortTimeoutFactor, withQuery } from "../FederationCalls.ts"
import { RemoteUnreachable } from "../RemoteError.ts"
import { readHierarchy, readPublicRooms } from "./answers.ts"
import { type Calls, newest, path } from "./serverServerCalls.ts"

/** How many bytes of an answer are read for each claimed key: twice as many as a key of this server may have. */
const maxClaimedBytes = 16 * 1024

const publicRoomsContent = ({ allNetworks, limit, network, search, since, types }: PublicRoomsRequest): JsonObject => ({
  ...(limit === undefined ? {} : { limit }),
  ...(since === undefined ? {} : { since }),
  ...(allNetworks ? { include_all_networks: true } : {}),
  ...(network === undefined ? {} : { third_party_instance_id: network }),
  filter: {
    ...(search === undefined ? {} : { generic_search_term: search }),
    ...(types === undefined ? {} : { room_types: types })
  }
})

export const queries = ({ call }: Calls) => ({
  /** The devices of a user of the server. `isUrgent` asks even a server that could not be reached lately. */
  userDevices: (destination: ServerName, userId: UserId, isUrgent: boolean) =>
    call({
      destination,
      method: "GET",
      uri: path("v1", "user", "devices", userId),
      maxBytes: answerLimits.pages,
      timeoutFactor: shortTimeoutFactor,
      isUrgent,
      read: (answer) => answer
    }),
  /** The keys of users of the server and their devices; an empty list wants all devices. */
  queryKeys: (destination: ServerName, device_keys: JsonObject, isUrgent = true) =>
    call({
      destination,
      method: "POST",
      uri: path("v1", "user", "keys", "query"),
      content: { device_keys },
      maxBytes: answerLimits.pages,
      timeoutFactor: shortTimeoutFactor,
      isUrgent,
      read: (answer) => answer
    }),
  /** Claims one-time keys of so many devices of users of the server. */
  claimKeys: (destination: ServerName, one_time_keys: JsonObject, count: number) =>
    call({
      destination,
      method: "POST",
      uri: path("v1", "user", "keys", "claim"),
      content: { one_time_keys },
      maxBytes: Math.min(answerLimits.pages, answerLimits.small + count * maxClaimedBytes),
      timeoutFactor: shortTimeoutFactor,
      isUrgent: true,
      read: (answer) => answer
    }),
  /** A page of the server's public rooms. Servers that cannot search are asked for the page without. */
  publicRooms: (destination: ServerName, request: PublicRoomsRequest) => {
    const common = {
      destination,
      maxBytes: answerLimits.summaries,
      timeoutFactor: shortTimeoutFactor,
      read: readPublicRooms
    }
    const { allNetworks, limit, network, since } = request
    const uri = withQuery(path("v1", "publicRooms"), [
      ["limit", limit === undefined ? undefined : String(limit)],
      ["since", since],
      ["include_all_networks", allNetworks ? "true" : undefined],
      ["third_party_instance_id", network]
    ])
    return newest(
      call({ ...common, method: "POST", uri: path("v1", "publicRooms"), content: publicRoomsContent(request) }),
      call({ ...common, method: "GET", uri })
    )
  },
  /** The server's summary of a room, and of its children if it is a space. */
  hierarchy: (destination: ServerName, roomId: RoomId, suggestedOnly: boolean) =>
    call({
      destination,
      method: "GET",
      uri: withQuery(path("v1", "hierarchy", roomId), [["suggested_only", suggestedOnly ? "true" : "false"]]),
      maxBytes: answerLimits.summaries,
      timeoutFactor: shortTimeoutFactor,
      read: readHierarchy
    }),
  /**
   * Asks a policy server to sign an event: the signatures by key ID. `timeout` in ms. Policy servers from before version 1.18 of the
   * specification have the unstable path alone, and give no signatures where they refuse.
   */
  askPolicy: (destination: ServerName, pdu: JsonObject, timeout: number) => {
    const sign = (version: string) =>
      call({
        destination,
        method: "POST",
        uri: `/_matrix/policy/${version}/sign`,
        content: pdu,
        maxBytes: answerLimits.small,
        timeoutFactor: shortTimeoutFactor,
        isUrgent: true,
        read: (answer): JsonObject => (isJsonObject(answer[destination]) ? answer[destination] : {})
      })
    return Effect.timeoutOrElse(newest(sign("v1"), sign("unstable/org.matrix.msc4284")), {
      duration: timeout,
      orElse: () => Effect.fail(new RemoteUnreachable({ destination, reason: `no signature within ${timeout} ms` }))
    })
  }
})
