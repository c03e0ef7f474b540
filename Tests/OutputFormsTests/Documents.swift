/// Two pools as `get -o json` gives them.
import JSON

let pools: JSONValue = [
  "apiVersion": "projectcalico.org/v3", "kind": "IPPoolList",
  "items": [
    [
      "apiVersion": "projectcalico.org/v3", "kind": "IPPool",
      "metadata": ["name": "blue", "labels": ["projectcalico.org/tier": "gold", "n": "10"]],
      "spec": ["cidr": "10.65.0.0/16", "blockSize": 26, "natOutgoing": true, "allowedUses": ["Workload", "Tunnel"]],
    ],
    [
      "apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": ["name": "green"],
      "spec": ["cidr": "fd00:65::/64", "blockSize": 122, "natOutgoing": false, "weight": .double(1.5)],
    ],
  ],
]
