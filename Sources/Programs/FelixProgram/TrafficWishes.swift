/// From an endpoint's plan to what its interface needs: limits of bandwidth, in bits, become buckets of octets.

import Addresses
import HostPlans
import LinkDriver
import NetlinkMessages
import Resources
import TrafficDriver

extension TrafficLimits {
  /// Nil where nothing limits bandwidth.
  init?(_ controls: QoSControls?) {
    guard let limits = controls?.limits else { return nil }
    self.init(
      toWorkload: TokenBucket(
        bandwidth: limits[.ingressBandwidth], burst: limits[.ingressBurst], peak: limits[.ingressPeakrate], peakBurst: limits[.ingressMinburst]),
      fromWorkload: TokenBucket(
        bandwidth: limits[.egressBandwidth], burst: limits[.egressBurst], peak: limits[.egressPeakrate], peakBurst: limits[.egressMinburst]))
    if toWorkload == nil, fromWorkload == nil { return nil }
  }
}

extension TokenBucket {
  /// Bits per second and bits, but `peakBurst`, which is octets. Without a burst: what flows in a tenth of a second, at least 64 KiB.
  init?(bandwidth: Int64?, burst: Int64?, peak: Int64?, peakBurst: Int64?) {
    guard let bandwidth, bandwidth >= 8 else { return nil }
    let rate = UInt64(bandwidth) / 8
    // The kernel keeps a burst as the time it takes, and loses count beyond 274 s.
    let burst = min(burst.map { UInt64($0) / 8 } ?? max(rate / 10, 64 << 10), rate.multipliedReportingOverflow(by: 250).partialValue)
    // What waits longer than 25 ms is dropped, as with the bandwidth plugin of CNI.
    let limit = burst + rate / 40
    self.init(rate: rate, burst: UInt32(clamping: burst), limit: UInt32(clamping: limit))
    guard let peak, UInt64(peak) / 8 > rate else { return }
    peakRate = UInt64(peak) / 8
    self.peakBurst = UInt32(clamping: peakBurst ?? 0)
  }
}

extension WorkloadLink {
  init(_ name: String, _ endpoint: EndpointPlan, _ settings: HostSettings) {
    let servesFromLoopback = settings.metadata.address.map { IPPrefix("127.0.0.0/8")!.contains($0) } ?? false
    self.init(name: name, mac: endpoint.mac, addresses: endpoint.addresses, reachesLoopback: endpoint.isOpenStack && servesFromLoopback)
  }
}
