/// A node's state on demand, and what the node answers.
import JSON
import Names
import Resources

extension FieldReader {
  /// Nil if it says no node: then nobody answers.
  func calicoNodeStatusSpec() -> CalicoNodeStatusSpec? {
    let node = required("node").flatMap { string($0, path("node")) }
    if let node, let fault = NameRules.dnsSubdomainFault(node) {
      findings.refusal(path("node"), .string(node), "is not a node's name: \(fault)")
    }
    let values = array("classes")
    let classes = values.compactMap { choice($0.value, $0.path, CalicoNodeStatusSpec.Class.self) }
    if values.isEmpty { findings.refusal(path("classes"), nil, "is empty", fix: "write some of [Agent, BGP, Routes]") }
    for (index, element) in classes.enumerated() where classes[..<index].contains(element) {
      findings.refusal(path("classes"), nil, "names \(element.rawValue) twice")
    }
    let period = required("updatePeriodSeconds", fix: "add one, 0 to 86400; 0 stops the reports").flatMap {
      integer($0, path("updatePeriodSeconds"), in: 0...86_400)
    }
    finish()
    return node.map { CalicoNodeStatusSpec(node: $0, classes: classes, updatePeriodSeconds: Int(period ?? 0)) }
  }

  func calicoNodeReport() -> CalicoNodeReport {
    var report = CalicoNodeReport()
    report.lastUpdated = string("lastUpdated")
    if let reader = reader("agent") {
      var agent = CalicoNodeReport.Agent()
      agent.birdV4 = reader.reader("birdV4")?.bgpDaemon()
      agent.birdV6 = reader.reader("birdV6")?.bgpDaemon()
      reader.finish()
      report.agent = agent
    }
    if let reader = reader("bgp") {
      var bgp = CalicoNodeReport.BGP()
      bgp.numberEstablishedV4 = reader.count("numberEstablishedV4")
      bgp.numberNotEstablishedV4 = reader.count("numberNotEstablishedV4")
      bgp.numberEstablishedV6 = reader.count("numberEstablishedV6")
      bgp.numberNotEstablishedV6 = reader.count("numberNotEstablishedV6")
      bgp.peersV4 = reader.array("peersV4").compactMap { reader.reader($0.value, $0.path)?.reportedPeer() }
      bgp.peersV6 = reader.array("peersV6").compactMap { reader.reader($0.value, $0.path)?.reportedPeer() }
      reader.finish()
      report.bgp = bgp
    }
    if let reader = reader("routes") {
      var routes = CalicoNodeReport.Routes()
      routes.routesV4 = reader.array("routesV4").compactMap { reader.reader($0.value, $0.path)?.reportedRoute() }
      routes.routesV6 = reader.array("routesV6").compactMap { reader.reader($0.value, $0.path)?.reportedRoute() }
      reader.finish()
      report.routes = routes
    }
    finish()
    return report
  }

  private func count(_ name: String) -> Int { integer(name, in: 0...Int64(Int32.max)).map { Int($0) } ?? 0 }

  private func bgpDaemon() -> CalicoNodeReport.Daemon {
    var daemon = CalicoNodeReport.Daemon()
    daemon.state = choiceOrEmpty("state", CalicoNodeReport.DaemonState.self)
    daemon.version = string("version")
    daemon.routerID = string("routerID")
    daemon.lastBootTime = string("lastBootTime")
    daemon.lastReconfigurationTime = string("lastReconfigurationTime")
    finish()
    return daemon
  }

  private func reportedPeer() -> CalicoNodeReport.Peer {
    var peer = CalicoNodeReport.Peer()
    peer.peerIP = string("peerIP")
    peer.type = choiceOrEmpty("type", CalicoNodeReport.PeerType.self)
    peer.state = choiceOrEmpty("state", CalicoNodeReport.SessionState.self)
    peer.since = string("since")
    finish()
    return peer
  }

  private func reportedRoute() -> CalicoNodeReport.Route {
    var route = CalicoNodeReport.Route()
    route.type = choiceOrEmpty("type", CalicoNodeReport.RouteType.self)
    route.destination = string("destination")
    route.gateway = string("gateway")
    route.interface = string("interface")
    if let reader = reader("learnedFrom") {
      route.source = reader.choiceOrEmpty("sourceType", CalicoNodeReport.RouteSource.self)
      route.sourcePeerIP = reader.string("peerIP")
      reader.finish()
    }
    finish()
    return route
  }
}

extension ResourceCodec {
  static func fields(_ status: CalicoNodeStatusSpec) -> JSONObject {
    var fields = JSONObject()
    fields["node"] = .string(status.node)
    fields["classes"] = list(status.classes.map(\.rawValue))
    fields["updatePeriodSeconds"] = number(status.updatePeriodSeconds)
    return fields
  }

  static func fields(_ report: CalicoNodeReport) -> JSONObject {
    var fields = JSONObject()
    fields["lastUpdated"] = report.lastUpdated.map(JSONValue.string)
    fields["agent"] = object(report.agent) { agent, fields in
      fields["birdV4"] = object(agent.birdV4, daemon)
      fields["birdV6"] = object(agent.birdV6, daemon)
    }
    fields["bgp"] = object(report.bgp) { bgp, fields in
      fields["numberEstablishedV4"] = number(bgp.numberEstablishedV4)
      fields["numberNotEstablishedV4"] = number(bgp.numberNotEstablishedV4)
      fields["numberEstablishedV6"] = number(bgp.numberEstablishedV6)
      fields["numberNotEstablishedV6"] = number(bgp.numberNotEstablishedV6)
      fields["peersV4"] = objects(bgp.peersV4, peer)
      fields["peersV6"] = objects(bgp.peersV6, peer)
    }
    fields["routes"] = object(report.routes) { routes, fields in
      fields["routesV4"] = objects(routes.routesV4, route)
      fields["routesV6"] = objects(routes.routesV6, route)
    }
    return fields
  }

  private static func daemon(_ daemon: CalicoNodeReport.Daemon, _ fields: inout JSONObject) {
    fields["state"] = word(daemon.state)
    fields["version"] = daemon.version.map(JSONValue.string)
    fields["routerID"] = daemon.routerID.map(JSONValue.string)
    fields["lastBootTime"] = daemon.lastBootTime.map(JSONValue.string)
    fields["lastReconfigurationTime"] = daemon.lastReconfigurationTime.map(JSONValue.string)
  }
  private static func peer(_ peer: CalicoNodeReport.Peer, _ fields: inout JSONObject) {
    fields["peerIP"] = peer.peerIP.map(JSONValue.string)
    fields["type"] = word(peer.type)
    fields["state"] = word(peer.state)
    fields["since"] = peer.since.map(JSONValue.string)
  }
  private static func route(_ route: CalicoNodeReport.Route, _ fields: inout JSONObject) {
    fields["type"] = word(route.type)
    fields["destination"] = route.destination.map(JSONValue.string)
    fields["gateway"] = route.gateway.map(JSONValue.string)
    fields["interface"] = route.interface.map(JSONValue.string)
    var source = JSONObject()
    source["sourceType"] = word(route.source)
    source["peerIP"] = route.sourcePeerIP.map(JSONValue.string)
    fields["learnedFrom"] = source.isEmpty ? nil : .object(source)
  }
}
