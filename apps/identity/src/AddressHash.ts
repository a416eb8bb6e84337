/**
 * The hash of an address in lookups, as `LookupApi` defines it.
 */
import { createHash } from "node:crypto"
import type { ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"

/** URL-safe base64 without padding. */
export const hashAddress = ({ address, medium }: ThirdPartyId, pepper: string): string =>
  createHash("sha256").update(`${address} ${medium} ${pepper}`, "utf8").digest("base64url")
