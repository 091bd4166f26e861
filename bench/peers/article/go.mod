module article-gateway

go 1.22
