/**
 * Reads the configuration of the gateway from the command line, the environment and a TOML file, and checks the rules that concern
 * several settings.
 */
import { X509Certificate } from "node:crypto"
import { settings as identitySettings } from "@greenroom/app-identity/IdentityConfig"
import {
  ConfigurationError,
  checkReadable,
  readSettings,
  refuse,
  type Sources,
  variablesOf
} from "@greenroom/gateway/SettingSources"
import * as Effect from "effect/Effect"
import * as FileSystem from "effect/FileSystem"
import { type GatewayConfig, settings } from "./GatewayConfig.ts"
import { checkLoginSettings } from "./LoginSettings.ts"

/** The identity server may run with the same environment. */
const program = {
  settings,
  variablePrefix: "GREENROOM_",
  otherVariables: variablesOf({ settings: identitySettings, variablePrefix: "GREENROOM_IDENTITY_" })
}

/** The configuration, checked. Errors: `ConfigurationError`. */
export const readConfig: (sources: Sources) => Effect.Effect<GatewayConfig, ConfigurationError, FileSystem.FileSystem> =
  Effect.fn("readConfig")(function* (sources) {
    const config = yield* readSettings(program, sources)
    yield* checkTogether(config)
    return config
  })

export type { Sources }

/** Checks that a file of certificates has at least one. */
const checkAuthority = Effect.fnUntraced(function* (file: string) {
  const setting = "federation.certificate_authorities"
  yield* checkReadable(setting, file)
  const text = yield* Effect.orDie(FileSystem.FileSystem.use((files) => files.readFileString(file)))
  yield* Effect.try({
    try: () => new X509Certificate(text),
    catch: () => new ConfigurationError({ message: `${setting}: ${file} has no certificate in PEM` })
  })
})

/** Checks that no two listeners of this server have the same address. */
const checkPorts = Effect.fnUntraced(function* (config: GatewayConfig) {
  const listeners = [
    { option: "--port", host: config.host, port: config.port },
    { option: "--federation-port", host: config.host, port: config.federationEnabled ? config.federationPort : 0 },
    {
      option: "--cluster-port",
      host: config.clusterListenHost ?? config.clusterHost,
      port: config.cluster ? config.clusterPort : 0
    },
    { option: "metrics.port", host: config.metricsHost, port: config.metricsPort ?? 0 }
  ].filter(({ port }) => port !== 0)
  for (const [index, { host, option, port }] of listeners.entries()) {
    const other = listeners.slice(0, index).find((earlier) => earlier.host === host && earlier.port === port)
    if (other !== undefined) return yield* refuse(`${option} must differ from ${other.option}, both are ${port}`)
  }
})

/** Rules that concern several settings. */
const checkTogether = Effect.fnUntraced(function* (config: GatewayConfig) {
  if ((config.tlsCert === undefined) !== (config.tlsKey === undefined)) {
    return yield* refuse("--tls-cert and --tls-key must be given together")
  }
  yield* checkReadable("--tls-cert", config.tlsCert)
  yield* checkReadable("--tls-key", config.tlsKey)
  yield* Effect.forEach(config.federationAuthorities, checkAuthority)
  if (config.turnUris.length > 0 && config.turnSharedSecret === undefined) {
    return yield* refuse("turn.uris needs turn.shared_secret")
  }
  if (config.mediaS3Endpoint !== undefined && config.mediaS3AccessKeyId === undefined) {
    return yield* refuse("media.s3.endpoint needs media.s3.access_key_id")
  }
  if (config.mediaS3Endpoint !== undefined && config.mediaS3SecretAccessKey === undefined) {
    return yield* refuse("media.s3.endpoint needs media.s3.secret_access_key")
  }
  yield* checkPorts(config)
  const login = checkLoginSettings(config)
  if (login !== undefined) return yield* refuse(login)
})
