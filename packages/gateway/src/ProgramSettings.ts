/**
 * The settings that every program of Greenroom has: who it is, where it listens, where its data is, what it logs. A program
 * spreads them into its own `Settings`.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { type Off, type Rate, RateFromString } from "./Rate.ts"
import {
  DatabaseUrl,
  LogLevelFromName,
  type LogLevelName,
  listenPort,
  logLevels,
  networks,
  networksExpects,
  OwnServerName,
  optional,
  type Setting,
  setting,
  Text
} from "./Setting.ts"

/** How often a client may do something. `example` is one of the setting's size. */
export const rateSetting = (
  name: string,
  description: string,
  fallback: Rate | Off,
  example: string
): Setting<Rate | Off> => ({
  name: `rate_limits.${name}`,
  description,
  expects: `a rate such as "${example}", or "off"`,
  schema: RateFromString,
  fallback
})

/** The settings that differ between the programs. */
export interface ProgramOptions {
  /** The meaning of the server's name. */
  readonly serverName: string
  /** Completes the sentence "must be ..." for it. */
  readonly serverNameExpects: string
  /** The API that is listened for, such as `client API`. */
  readonly api: string
  readonly port: number
  /** The content of the data directory. */
  readonly dataDir: string
  readonly dataDirFallback: string
}

/** The settings that all programs have: name, address, data, log and proxies. */
export const programSettings = (options: ProgramOptions) =>
  ({
    serverName: setting<ServerName>({
      name: "server_name",
      description: `${options.serverName}. It cannot be changed later`,
      expects: options.serverNameExpects,
      schema: OwnServerName,
      fallback: "localhost" as ServerName,
      flag: "name"
    }),
    host: setting({
      name: "host",
      description: "The address to listen on. 0.0.0.0 or :: listens on all",
      expects: "an address or a host name",
      schema: Text,
      fallback: "127.0.0.1",
      flag: "address"
    }),
    port: setting({
      name: "port",
      description: `The port of the ${options.api}. 0 takes any free one`,
      ...listenPort,
      fallback: options.port,
      flag: "number"
    }),
    dataDir: setting({
      name: "data_dir",
      description: options.dataDir,
      expects: "a directory",
      schema: Text,
      fallback: options.dataDirFallback,
      flag: "directory"
    }),
    databaseUrl: optional({
      name: "database_url",
      description: "A PostgreSQL database to use instead of the one that comes with Greenroom",
      expects: "a URL such as postgresql://user:password@host:5432/database",
      schema: DatabaseUrl,
      flag: "url",
      secret: true
    }),
    logLevel: setting<LogLevelName>({
      name: "log_level",
      description: "The lowest level that is logged",
      expects: `one of ${logLevels.join(", ")}`,
      schema: LogLevelFromName,
      fallback: "info",
      flag: "level"
    }),
    trustedProxies: setting({
      name: "trusted_proxies",
      description: "Reverse proxies whose X-Forwarded-For header names the address of the client",
      expects: networksExpects,
      schema: networks,
      fallback: [] as ReadonlyArray<string>
    })
  }) as const
