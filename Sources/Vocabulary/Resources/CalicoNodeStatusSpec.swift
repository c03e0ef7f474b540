/// A wish to have a node's state in the datastore; the state itself is the object's status.
public struct CalicoNodeStatusSpec: Hashable, Sendable {
  public enum Class: String, Hashable, Sendable, CaseIterable {
    case agent = "Agent"
    case bgp = "BGP"
    case routes = "Routes"
  }
  public var node: String
  public var classes: [Class]
  /// At most a day; zero stops the reports.
  public var updatePeriodSeconds: Int
  public init(node: String, classes: [Class], updatePeriodSeconds: Int) {
    self.node = node
    self.classes = classes
    self.updatePeriodSeconds = updatePeriodSeconds
  }
}

/// What the node reports.
public struct CalicoNodeReport: Hashable, Sendable {
  public enum DaemonState: String, Hashable, Sendable, CaseIterable {
    case ready = "Ready"
    case notReady = "NotReady"
  }
  public struct Daemon: Hashable, Sendable {
    public var state: DaemonState?
    public var version: String?
    public var routerID: String?
    public var lastBootTime: String?
    public var lastReconfigurationTime: String?
    public init() {}
  }
  public enum PeerType: String, Hashable, Sendable, CaseIterable {
    case nodeMesh = "NodeMesh"
    case nodePeer = "NodePeer"
    case globalPeer = "GlobalPeer"
  }
  public enum SessionState: String, Hashable, Sendable, CaseIterable {
    case idle = "Idle"
    case connect = "Connect"
    case active = "Active"
    case openSent = "OpenSent"
    case openConfirm = "OpenConfirm"
    case established = "Established"
    case close = "Close"
  }
  public struct Peer: Hashable, Sendable {
    public var peerIP: String?
    public var type: PeerType?
    public var state: SessionState?
    /// As the BGP daemon prints it.
    public var since: String?
    public init() {}
  }
  public enum RouteType: String, Hashable, Sendable, CaseIterable {
    /// Used for forwarding.
    case forwarding = "FIB"
    case known = "RIB"
  }
  public enum RouteSource: String, Hashable, Sendable, CaseIterable {
    case kernel = "Kernel"
    case `static` = "Static"
    case direct = "Direct"
    case nodeMesh = "NodeMesh"
    case bgpPeer = "BGPPeer"
  }
  public struct Route: Hashable, Sendable {
    public var type: RouteType?
    public var destination: String?
    public var gateway: String?
    public var interface: String?
    /// `learnedFrom.sourceType` and, for what a peer sent, `learnedFrom.peerIP`.
    public var source: RouteSource?
    public var sourcePeerIP: String?
    public init() {}
  }
  public struct Agent: Hashable, Sendable {
    public var birdV4: Daemon?
    public var birdV6: Daemon?
    public init() {}
  }
  public struct BGP: Hashable, Sendable {
    public var numberEstablishedV4 = 0
    public var numberNotEstablishedV4 = 0
    public var numberEstablishedV6 = 0
    public var numberNotEstablishedV6 = 0
    public var peersV4: [Peer] = []
    public var peersV6: [Peer] = []
    public init() {}
  }
  public struct Routes: Hashable, Sendable {
    public var routesV4: [Route] = []
    public var routesV6: [Route] = []
    public init() {}
  }
  /// RFC 3339.
  public var lastUpdated: String?
  public var agent: Agent?
  public var bgp: BGP?
  public var routes: Routes?
  public init() {}
}
