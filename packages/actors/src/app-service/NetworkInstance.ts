/**
 * The ID by which clients name a network of an application service where they ask for its public rooms.
 *
 * Source: "Third-party Networks" of the client-server specification.
 */
/** The `instance_id` of a network of an application service. */
export const formatInstanceId = (serviceId: string, networkId: string): string => `${serviceId}|${networkId}`

/** The network of an `instance_id`; undefined for malformed text. */
export const parseInstanceId = (instanceId: string) => {
  const end = instanceId.indexOf("|")
  return end < 1 ? undefined : { serviceId: instanceId.slice(0, end), networkId: instanceId.slice(end + 1) }
}
