/// From the best path to what a group of peers is told: who may hear it, and with which attributes
/// (RFC 4271, sections 5.1 and 9.2; RFC 4456, sections 6 to 8; RFC 1997).

import Addresses
import BGPMessages

extension PathAttributes {
  /// The attributes as the peers of `configuration` see them, or nil if they may not hear the route.
  /// - Parameter source: the peer it was learned from; nil for a route of this host.
  func exported(
    from source: RoutePeer?, to configuration: ExportConfiguration, family: IPFamily, routerID: RouterID, clusterID: RouterID?
  ) -> PathAttributes? {
    if communities.contains(.noAdvertise) { return nil }
    if configuration.isExternal && communities.contains(where: { $0 == .noExport || $0 == .noExportSubconfed }) { return nil }
    var result = self

    if let source, !source.isExternal, !configuration.isExternal {
      // RFC 4456, section 6: from clients to everyone, from others to clients. Without reflection nothing passes between internal peers.
      guard source.isReflectorClient || configuration.isReflectorClient else { return nil }
      result.originatorID = originatorID ?? source.routerID
      // RFC 4456, section 7: a cluster of one reflector may go by the router's own identifier.
      result.clusterList.insert(clusterID ?? routerID, at: 0)
    }

    let isOwnNextHop =
      switch (configuration.nextHopMode, source) {
      case (_, nil), (.ownAddress, _): true
      case (.automatic, _): configuration.isExternal
      case (.keep, _): false
      }
    if isOwnNextHop {
      guard let own = configuration.localAddress(in: family) else { return nil }
      result.nextHop = NextHop(own)
    }

    if configuration.isExternal {
      if result.asPath.hasConfederationSegments { result.asPath = result.asPath.withoutConfederation() }
      result.asPath.prepend(configuration.localAS)
      result.localPreference = nil
      result.originatorID = nil
      result.clusterList = []
      // RFC 4271, section 5.1.4: a MED that came from one AS does not go on to another.
      if source != nil { result.multiExitDiscriminator = nil }
    } else {
      result.localPreference = localPreference ?? 100
    }
    return result
  }
}

extension ExportConfiguration {
  func localAddress(in family: IPFamily) -> IPAddress? {
    if localAddress.family == family { return localAddress }
    return localAddressOther?.family == family ? localAddressOther : nil
  }
}
