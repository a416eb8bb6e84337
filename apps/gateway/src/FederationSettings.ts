/**
 * The options of federation that follow from the settings.
 */
import type { FederationOptions } from "@greenroom/actors/federation/FederationConfig"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { GatewayConfig } from "./GatewayConfig.ts"

/** `authorities`: the certificates that `federation.certificate_authorities` names, as PEM. */
export const toFederationOptions = (config: GatewayConfig, authorities: ReadonlyArray<string>): FederationOptions => ({
  enabled: config.federationEnabled,
  allow: config.federationAllow,
  deny: config.federationDeny,
  verifyCertificates: config.federationVerify,
  staticServers: Object.fromEntries(
    config.federationServers.map((federationServer) => federationServer.split("=") as [string, string])
  ),
  keyNotaries: config.federationKeyNotaries as ReadonlyArray<ServerName>,
  ...(config.federationPrivateAddresses ? { addressPolicy: "any" } : {}),
  ...(config.federationDnsServers.length === 0 ? {} : { dnsServers: config.federationDnsServers }),
  ...(authorities.length === 0 ? {} : { certificateAuthorities: authorities })
})
