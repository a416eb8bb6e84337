/**
 * How much one request may read of the store: what answers requests runs each of them `withAllowance`.
 */
export { withAllowance } from "@greenroom/store/LargeReads"
