/// A topology as its own document, with nothing left out: the record of a standing lab, and what `lab validate -o yaml` shows.
import Addresses
import JSON

extension Topology {
  public func document() -> JSONValue {
    func texts(_ values: some Sequence<some CustomStringConvertible>) -> JSONValue { .array(values.map { .string($0.description) }) }
    func labels(_ labels: [String: String]) -> JSONValue {
      .object(JSONObject(labels.sorted { $0.key < $1.key }.map { .init($0.key, .string($0.value)) }))
    }
    func object(_ members: [(String, JSONValue?)]) -> JSONValue {
      .object(JSONObject(members.compactMap { name, value in value.flatMap { $0.isNull ? nil : .init(name, $0) } }))
    }
    func number(_ asNumber: UInt32?) -> JSONValue? { asNumber.map { .integer(Int64($0)) } }
    func router(_ router: Router) -> JSONValue {
      object([
        ("name", .string(router.name)), ("router", .string(router.program.rawValue)), ("asNumber", number(router.asNumber)),
        ("labels", router.labels.isEmpty ? nil : labels(router.labels)),
      ])
    }
    let spec = object([
      ("arrangement", .string(arrangement.rawValue)),
      ("datastore", .string(datastore.rawValue)),
      ("asNumber", .integer(Int64(asNumber))),
      ("racks", .array(racks.map(router))),
      ("spines", .array(routers.filter { $0.role == .spine }.map(router))),
      (
        "hosts",
        .array(
          hosts.map {
            object([
              ("name", .string($0.name)), ("rack", .string($0.rack)), ("asNumber", number($0.asNumber)),
              ("labels", $0.labels.isEmpty ? nil : labels($0.labels)),
            ])
          })
      ),
      // Those that follow from racks and spines stand here only with a size of their own.
      (
        "links",
        .array(
          cables.filter { !isImplied($0) || $0.mtu != nil }.map {
            object([("between", texts([$0.a, $0.b])), ("mtu", $0.mtu.map { .integer(Int64($0)) })])
          })
      ),
      (
        "reflectors",
        reflectors.isEmpty
          ? nil
          : .array(
            reflectors.map {
              object([("node", .string($0.node)), ("clusterID", .string($0.clusterID.description)), ("clients", .string($0.clients))])
            })
      ),
      ("pools", texts(pools)),
      ("namespaces", .array(namespaces.map { object([("name", .string($0.name)), ("labels", labels($0.labels))]) })),
      (
        "workloads",
        .array(
          workloads.map {
            object([
              ("name", .string($0.name)), ("namespace", .string($0.namespace)), ("host", .string($0.host)), ("labels", labels($0.labels)),
              ("addresses", $0.addresses.isEmpty ? nil : texts($0.addresses)),
            ])
          })
      ),
      ("services", texts(services)),
    ])
    return ["apiVersion": .string(TopologyReader.apiVersion), "kind": .string(TopologyReader.kind), "spec": spec]
  }

  private func isImplied(_ cable: Cable) -> Bool {
    hosts.contains { $0.name == cable.a }
      || routers.contains { $0.role == .spine && $0.name == cable.b && racks.contains { $0.name == cable.a } }
  }
}
