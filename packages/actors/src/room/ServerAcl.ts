/**
 * Which servers may take part in a room: m.room.server_acl.
 *
 * Source: "Server Access Control Lists (ACLs) for rooms" of the client-server and server-server specifications.
 */
import { isIP } from "node:net"
import { matchesGlob, parseGlob } from "@greenroom/protocol/Glob"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import type { StateLookup } from "@greenroom/room/RoomVersion"
import { Effect } from "effect"

const isNamed = (patterns: Json | undefined, host: string): boolean =>
  Array.isArray(patterns) &&
  patterns.some((pattern) => typeof pattern === "string" && matchesGlob(host, parseGlob(pattern, { ignoreCase: true })))

/** The server name without its port, in lower case. */
const hostOf = (server: ServerName): string => server.replace(/:[0-9]{1,5}$/, "").toLowerCase()

/** Whether an access control list lets the server take part: ports do not count. */
export const allows = ({ allow, allow_ip_literals, deny }: JsonObject, server: ServerName): boolean => {
  const host = hostOf(server)
  const isLiteral = isIP(host) !== 0 || host.startsWith("[")
  if (allow_ip_literals === false && isLiteral) return false
  return !isNamed(deny, host) && isNamed(allow, host)
}

/** Whether the server may take part in the room: a room without the event admits all. */
export const admits = (state: StateLookup, server: ServerName): boolean => {
  const acl = state("m.room.server_acl", "")
  return acl === undefined || allows(acl.content, server)
}

/** The error text for a server that the access control list excludes. */
export const keptOut = (server: ServerName): string => `${server} is kept out of the room by its m.room.server_acl`

/** Fails with M_FORBIDDEN for a server that the room keeps out. */
export const requireAdmitted = (state: StateLookup, server: ServerName): Effect.Effect<void, Forbidden> =>
  admits(state, server) ? Effect.void : Effect.fail(new Forbidden({ error: keptOut(server) }))
