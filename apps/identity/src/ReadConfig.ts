/**
 * Reads the configuration and converts it to the options of the parts of the server.
 */
import type { KeyObject } from "node:crypto"
import {
  type ConfigurationError,
  checkDataDir,
  readSettings,
  refuse,
  type Sources
} from "@greenroom/gateway/SettingSources"
import { isServerName, type ServerName } from "@greenroom/protocol/Identifiers"
import { decodeBase64, importVerifyKey } from "@greenroom/room/Signing"
import { Effect, type FileSystem, Result } from "effect"
import { type IdentityConfig, settings } from "./IdentityConfig.ts"
import type { Peer, Terms } from "./IdentityOptions.ts"
import type { IdentityServerOptions } from "./IdentityServer.ts"

/** `identity_servers` is a setting of the gateway, which may run with the same environment. */
export const program = {
  settings,
  variablePrefix: "GREENROOM_IDENTITY_",
  otherVariables: ["GREENROOM_IDENTITY_SERVERS"]
}

/** The configuration, checked. Errors: `ConfigurationError`. */
export const readConfig: (
  sources: Sources
) => Effect.Effect<IdentityConfig, ConfigurationError, FileSystem.FileSystem> = Effect.fn("readConfig")(
  function* (sources) {
    const config = yield* readSettings(program, sources)
    if ((config.smtpUser === undefined) !== (config.smtpPassword === undefined)) {
      return yield* refuse("smtp.user and smtp.password must be given together")
    }
    if (config.databaseUrl === undefined) yield* checkDataDir(config.dataDir)
    return config
  }
)

const readKey = (text: string) => {
  const bytes = decodeBase64(text)
  const key = bytes === undefined ? undefined : importVerifyKey(bytes)
  return key !== undefined && Result.isSuccess(key) ? key.success : undefined
}

const withoutSlash = (url: string): string => url.replace(/\/+$/, "")

/** A peer with several keys has several entries. */
const toPeers = Effect.fnUntraced(function* (lines: ReadonlyArray<string>, self: ServerName) {
  const peers = new Map<string, Peer & { readonly keys: Map<string, KeyObject> }>()
  for (const line of lines) {
    const [name = "", url = "", keyId = "", text = ""] = line.split(" ")
    const key = readKey(text)
    if (!isServerName(name) || name === self) return yield* refuse(`peers: ${name} is not the name of another server`)
    if (key === undefined) return yield* refuse(`peers: the key ${keyId} of ${name} is not an Ed25519 public key`)
    const peer = peers.get(name) ?? { name: name as ServerName, url: withoutSlash(url), keys: new Map() }
    peer.keys.set(keyId, key)
    peers.set(name, peer)
  }
  return [...peers.values()]
})

const toHomeServers = (lines: ReadonlyArray<string>): ReadonlyMap<string, string> =>
  new Map(lines.map((line) => [line.split(" ")[0]!, withoutSlash(line.split(" ")[1]!)]))

const toTerms = (lines: ReadonlyArray<string>) =>
  lines.map((line): Terms => {
    const [id = "", version = "", language = "", url = "", ...name] = line.split(" ")
    return { id, version, language, url, name: name.join(" ") }
  })

const toMailbox = (text: string) => {
  const [, name, address] = /^(.*)<(.*)>$/.exec(text) ?? [undefined, "", text]
  return { name: name!.trim(), address: address! }
}

const hostOf = (host: string): string => (host.includes(":") ? `[${host}]` : host)

/** The options for the settings. Errors: `ConfigurationError`. */
export const toServerOptions: (config: IdentityConfig) => Effect.Effect<IdentityServerOptions, ConfigurationError> =
  Effect.fnUntraced(function* (config) {
    const peers = yield* toPeers(config.peers, config.serverName)
    return {
      identity: {
        serverName: config.serverName,
        publicUrl: withoutSlash(config.publicUrl ?? `http://${hostOf(config.host)}:${config.port}`),
        linkLifetime: config.linkLifetime * 1_000,
        codeLifetime: config.codeLifetime * 1_000,
        sessionLifetime: config.sessionLifetime * 1_000,
        pepperLifetime: config.pepperLifetime * 1_000,
        singleLookup: config.singleLookup,
        addressRate: config.addressRate,
        terms: toTerms(config.terms),
        peers,
        homeServers: toHomeServers(config.homeServers),
        privateAddresses: config.privateAddresses,
        verifyCertificates: config.verifyCertificates
      },
      http: { host: config.host, port: config.port, trustedProxies: config.trustedProxies },
      smtp:
        config.smtpHost === undefined
          ? undefined
          : {
              host: config.smtpHost,
              port: config.smtpPort,
              security: config.smtpSecurity,
              user: config.smtpUser,
              password: config.smtpPassword,
              from: toMailbox(config.smtpFrom ?? `noreply@${config.serverName.replace(/:[0-9]+$/, "")}`),
              verifyCertificate: config.smtpVerify
            },
      sms:
        config.smsUrl === undefined
          ? undefined
          : { url: config.smsUrl, authorization: config.smsAuthorization, from: config.smsFrom },
      templatesDir: config.templatesDir,
      rates: {
        requests: config.requestRate,
        messages: config.messageRate,
        tries: config.triesRate,
        lookups: config.lookupRate
      },
      trustedClients: config.trustedClients
    }
  })
