/// What stands in a lab and how it is, gathered from its daemons, routers and kernels: values, for the tree that people see and for JSON.
import Addresses
import Glibc
import JSON
import NetlinkEdge

public struct LabStatus: Sendable {
  public struct Session: Sendable {
    /// A place of the lab, or an address that is none's.
    public let peer: String
    public let family: IPFamily
    public let state: String
    public var isUp: Bool { state.lowercased() == "established" }
  }

  public struct Speaker: Sendable {
    public let name: String
    public let role: String
    public let program: String
    public let asNumber: UInt32
    public let addresses: [IPAddress]
    public let clusterID: IPv4Address?
    /// Daemons by name, with what is wrong with each; nil when it is well.
    public let daemons: [(name: String, fault: String?)]
    public let sessions: [Session]
    /// In both families.
    public let sessionsExpected: Int
  }

  public struct Workload: Sendable {
    public let name: String
    public let namespace: String
    public let host: String
    public let addresses: [IPAddress]
    /// Felix's word; nil when it says none.
    public let state: String?
  }

  public struct Link: Sendable {
    public let name: String
    public let ends: [String]
    public let state: Lab.LinkState
    public let mtu: UInt32?
  }

  public let lab: String
  public let topology: Topology
  public let datastore: String
  public let datastoreFault: String?
  public let speakers: [Speaker]
  public let workloads: [Workload]
  public let links: [Link]

  public init(_ lab: Lab) {
    let fabric = lab.fabric
    self.lab = lab.paths.lab
    topology = lab.topology
    datastore = lab.datastoreName
    datastoreFault =
      lab.topology.datastore == .etcd && !EtcdServer(paths: lab.paths, fabric: fabric).isHealthy() ? "does not answer" : nil
    let owners = Dictionary(
      fabric.speakers.flatMap { speaker in [speaker.address4, speaker.address6].map { ($0.address, speaker.name) } }
        + fabric.cables.flatMap(\.ends).flatMap { end in end.addresses.map { ($0.address, end.place) } },
      uniquingKeysWith: { first, _ in first })
    speakers = fabric.speakers.map { Self.speaker($0, lab, owners) }
    var states: [IPAddress: String] = [:]
    for host in lab.topology.hosts {
      for endpoint in lab.status(of: host, "felix")?["endpoints"]?.array ?? [] {
        for address in endpoint["addresses"]?.array ?? [] {
          if let address = address.string.flatMap({ InterfaceAddress($0)?.address ?? IPAddress($0) }) {
            states[address] = endpoint["state"]?.string
          }
        }
      }
    }
    workloads = lab.topology.workloads.map { workload in
      let present = lab.attached[workload.name]
      let addresses = (present?.addresses.values).map { $0.sorted() } ?? []
      return Workload(
        name: workload.name, namespace: workload.namespace, host: present?.host ?? workload.host, addresses: addresses,
        state: present == nil ? "detached" : addresses.first.flatMap { states[$0] })
    }
    links = fabric.cables.map { cable in
      Link(name: cable.name, ends: cable.ends.map(\.place), state: (try? lab.linkState(cable.name)) ?? .cut, mtu: cable.mtu)
    }
  }

  private static func speaker(_ speaker: Fabric.Speaker, _ lab: Lab, _ owners: [IPAddress: String]) -> Speaker {
    var daemons: [(String, String?)] = []
    var sessions: [Session] = []
    if !speaker.isRouter {
      let felix = lab.status(of: speaker.name, "felix")
      let problems = felix?["problems"]?.array?.compactMap(\.string) ?? []
      daemons.append(
        ("felix", felix == nil ? "does not answer" : felix?["inSync"]?.bool != true ? "is not in sync" : problems.first))
    }
    if speaker.isMargay {
      let bgp = lab.status(of: speaker.name, "bgp")
      daemons.append(("bgp", bgp == nil ? "does not answer" : bgp?["problems"]?.array?.first?.string))
      sessions = (bgp?["sessions"]?.array ?? []).map { session in
        let address = session["peer"]?.string.flatMap { IPAddress($0) }
        return Session(
          peer: address.flatMap { owners[$0] } ?? session["peer"]?.string ?? "?", family: address?.family ?? .v4,
          state: session["state"]?.string ?? "?")
      }
    } else {
      let bird = lab.bird(speaker.name)
      sessions = bird.sessions().map { Session(peer: $0.peer, family: $0.family, state: $0.state) }
      daemons.append(("bird", lab.processIDs(of: speaker.name).contains(where: Lab.isRunning) ? nil : "does not answer"))
    }
    return Speaker(
      name: speaker.name,
      role: speaker.isRouter ? lab.topology.routers.first { $0.name == speaker.name }?.role.rawValue ?? "router" : "host",
      program: speaker.isMargay ? "margay" : "bird", asNumber: speaker.asNumber,
      addresses: [speaker.address4.address, speaker.address6.address], clusterID: speaker.clusterID, daemons: daemons, sessions: sessions,
      sessionsExpected: lab.fabric.sessions(of: speaker.name).count * 2)
  }

  public func json() -> JSONValue {
    func texts(_ values: [some CustomStringConvertible]) -> JSONValue { .array(values.map { .string($0.description) }) }
    return [
      "lab": .string(lab), "arrangement": .string(topology.arrangement.rawValue),
      "datastore": ["name": .string(datastore), "problem": datastoreFault.map { .string($0) } ?? .null],
      "speakers": .array(
        speakers.map { speaker in
          [
            "name": .string(speaker.name), "role": .string(speaker.role), "program": .string(speaker.program),
            "asNumber": .integer(Int64(speaker.asNumber)), "addresses": texts(speaker.addresses),
            "clusterID": speaker.clusterID.map { .string($0.description) } ?? .null,
            "daemons": .object(JSONObject(speaker.daemons.map { .init($0.name, .string($0.fault ?? "well")) })),
            "sessionsExpected": .integer(Int64(speaker.sessionsExpected)),
            "sessions": .array(
              speaker.sessions.map {
                ["peer": .string($0.peer), "family": .string($0.family.description), "state": .string($0.state)]
              }),
          ]
        }),
      "workloads": .array(
        workloads.map {
          [
            "name": .string($0.name), "namespace": .string($0.namespace), "host": .string($0.host), "addresses": texts($0.addresses),
            "state": $0.state.map { .string($0) } ?? .null,
          ]
        }),
      "links": .array(
        links.map {
          [
            "name": .string($0.name), "between": texts($0.ends), "state": .string($0.state.rawValue),
            "mtu": $0.mtu.map { .integer(Int64($0)) } ?? .null,
          ]
        }),
    ]
  }
}
