"""Control policies on recorded series: the folder read, the site's devices simulated, the bill, the picture."""
