/**
 * The application services of this server, as its operator registered them, and the names that belong to each.
 *
 * Source: "Registration" of the application service API.
 */
import { createHash } from "node:crypto"
import type { AppServiceRegistration, Namespace } from "@greenroom/protocol/app-service/AppServiceRegistration"
import { formatUserId, type RoomAlias, type RoomId, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { Exclusive } from "@greenroom/protocol/MatrixError"
import { Context, Effect, Layer } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"

/** The names of one kind that a service has registered. */
interface Names {
  readonly includes: (name: string) => boolean
  readonly excludesOthers: (name: string) => boolean
}

/** A registered application service. */
export interface AppService {
  readonly id: string
  /** The URL of the service, without a slash at the end; undefined for one that is sent nothing. */
  readonly url: string | undefined
  readonly hsToken: string
  /** The user as which the service acts where it names none. */
  readonly sender: UserId
  readonly isRateLimited: boolean
  readonly protocols: ReadonlyArray<string>
  readonly receivesEphemeral: boolean
  /** Whether it is sent changes of device lists and counts of one-time keys. */
  readonly receivesDeviceLists: boolean
  /** Whether a user of this server is one of the service's. */
  readonly hasUser: (userId: string) => boolean
  readonly hasAlias: (alias: string) => boolean
  readonly hasRoom: (roomId: RoomId) => boolean
  readonly ownsUser: (userId: UserId) => boolean
  readonly ownsAlias: (alias: RoomAlias) => boolean
  readonly hasAliases: boolean
}

/** A regular expression matches from the beginning of a name, as on other servers. */
const namesOf = (namespaces: ReadonlyArray<Namespace> | null | undefined): Names => {
  const compiled = (namespaces ?? []).map(({ exclusive, regex }) => ({ exclusive, pattern: new RegExp(regex, "y") }))
  const matches = (pattern: RegExp, name: string) => {
    pattern.lastIndex = 0
    return pattern.test(name)
  }
  return {
    includes: (name) => compiled.some(({ pattern }) => matches(pattern, name)),
    excludesOthers: (name) => compiled.some(({ exclusive, pattern }) => exclusive && matches(pattern, name))
  }
}

const toAppService = (registration: AppServiceRegistration, sender: UserId): AppService => {
  const { namespaces, rate_limited, receive_ephemeral, url } = registration
  const users = namesOf(namespaces.users)
  const aliases = namesOf(namespaces.aliases)
  const rooms = namesOf(namespaces.rooms)
  const ourName = serverNameOf(sender)
  const isOurs = (userId: string) => serverNameOf(userId as UserId) === ourName
  return {
    id: registration.id,
    url: url?.replace(/\/+$/, ""),
    hsToken: registration.hs_token,
    sender,
    isRateLimited: rate_limited ?? true,
    protocols: registration.protocols ?? [],
    receivesEphemeral: receive_ephemeral ?? registration["de.sorunome.msc2409.push_ephemeral"] ?? false,
    receivesDeviceLists: registration["org.matrix.msc3202"] ?? false,
    hasUser: (userId) => userId === sender || (isOurs(userId) && users.includes(userId)),
    hasAlias: aliases.includes,
    hasRoom: rooms.includes,
    ownsUser: (userId) => userId === sender || (isOurs(userId) && users.excludesOthers(userId)),
    ownsAlias: aliases.excludesOthers,
    hasAliases: (namespaces.aliases ?? []).length > 0
  }
}

const hashOf = (token: string): string => createHash("sha256").update(token).digest("base64")

const make = Effect.gen(function* () {
  const { appServices: registrations = [], serverName } = yield* HomeServerConfig
  const services = registrations.map((registration) =>
    toAppService(registration, formatUserId(registration.sender_localpart, serverName))
  )
  // Looked up by hash: how long a comparison takes says nothing of the token.
  const byToken = new Map(registrations.map(({ as_token }, index) => [hashOf(as_token), services[index]!]))
  const byId = new Map(services.map((service) => [service.id, service]))

  const mayUse = (
    name: string,
    caller: AppService | undefined,
    owns: (service: AppService) => boolean,
    has: (service: AppService) => boolean
  ): Effect.Effect<void, Exclusive> => {
    if (caller !== undefined && !has(caller)) {
      return Effect.fail(new Exclusive({ error: `${name} is outside the namespaces of the application service` }))
    }
    const owner = services.find((service) => service !== caller && owns(service))
    return owner === undefined
      ? Effect.void
      : Effect.fail(new Exclusive({ error: `${name} belongs to the namespace of an application service` }))
  }

  return AppServices.of({
    all: services,
    withToken: (token) => (byToken.size === 0 ? undefined : byToken.get(hashOf(token))),
    withId: (id) => (id === undefined ? undefined : byId.get(id)),
    mayMakeUser: (userId, caller) =>
      mayUse(
        userId,
        caller,
        (service) => service.ownsUser(userId),
        (service) => service.hasUser(userId)
      ),
    mayManageAlias: (alias, caller) =>
      mayUse(
        alias,
        caller,
        (service) => service.ownsAlias(alias),
        (service) => service.hasAlias(alias)
      )
  })
})

/** The registered application services and their namespaces. */
export class AppServices extends Context.Service<
  AppServices,
  {
    /** All application services of the configuration. */
    readonly all: ReadonlyArray<AppService>
    /** The service that has this `as_token`. */
    readonly withToken: (token: string) => AppService | undefined
    /** The service with this `id`. */
    readonly withId: (id: string | undefined) => AppService | undefined
    /** Whether the name may be made, by a service or by anybody else. Errors: M_EXCLUSIVE. */
    readonly mayMakeUser: (userId: UserId, caller?: AppService | undefined) => Effect.Effect<void, Exclusive>
    /** Whether the alias may be made or removed, by a service or by anybody else. Errors: M_EXCLUSIVE. */
    readonly mayManageAlias: (alias: RoomAlias, caller?: AppService | undefined) => Effect.Effect<void, Exclusive>
  }
>()("greenroom/actors/AppServices") {
  static readonly layer = Layer.effect(AppServices, make)
}
